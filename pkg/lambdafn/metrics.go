package lambdafn

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"iamkeys/pkg/iamkeys/audit"
)

// Emit writes the metrics to standard output, as of now.
func Emit(metrics []audit.Metric) {
	_ = WriteMetrics(os.Stdout, time.Now(), metrics) // nobody is left to tell when even that cannot be written
}

// WriteMetrics writes the metrics as one line in CloudWatch's embedded metric
// format, under the namespace iamkeys and the dimension FunctionName. On a
// function's standard output that line is all it takes: there is no call to AWS.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
func WriteMetrics(w io.Writer, now time.Time, metrics []audit.Metric) error {
	type definition struct{ Name, Unit string }
	definitions := []definition{}
	line := map[string]any{"FunctionName": lambdacontext.FunctionName}
	for _, m := range metrics {
		definitions = append(definitions, definition{m.Name, m.Unit})
		line[m.Name] = m.Value
	}
	line["_aws"] = map[string]any{
		"Timestamp":         now.UnixMilli(),
		"CloudWatchMetrics": []any{map[string]any{"Namespace": "iamkeys", "Dimensions": [][]string{{"FunctionName"}}, "Metrics": definitions}},
	}
	encoded, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("encoding metrics: %w", err)
	}
	if _, err := w.Write(append(encoded, '\n')); err != nil {
		return fmt.Errorf("writing metrics: %w", err)
	}
	return nil
}
