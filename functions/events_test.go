package functions

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/lambdafn"
)

// inputOf and outputOf give what an operation's Run takes and returns.
func inputOf(operation any) reflect.Type {
	run, _ := reflect.TypeOf(operation).MethodByName("Run")
	return run.Type.In(2)
}

func outputOf(operation any) reflect.Type {
	run, _ := reflect.TypeOf(operation).MethodByName("Run")
	return run.Type.Out(0)
}

// accepts decodes an event as the operation's input and validates it. Fields
// that the input does not have are refused.
func accepts(operation any, event []byte) error {
	in := reflect.New(inputOf(operation))
	d := json.NewDecoder(bytes.NewReader(event))
	d.DisallowUnknownFields()
	if err := d.Decode(in.Interface()); err != nil {
		return err
	}
	var fields map[string]any
	if err := json.Unmarshal(event, &fields); err != nil {
		return err
	}
	for name := range fields { // encoding/json does not mind the letter case, and functions do
		if _, known := fieldsOf(inputOf(operation))[name]; !known {
			return fmt.Errorf("unknown field %q", name)
		}
	}
	return in.Elem().Interface().(lambdafn.Input).Validate()
}

func TestEventFiles(t *testing.T) {
	for folder, operation := range operations() {
		event, err := os.ReadFile(folder + "/event.json")
		if err != nil {
			t.Errorf("%s has no event for sam local invoke: %v", folder, err)
			continue
		}
		if bytes.Contains(event, []byte("\n  \"detail-type\"")) { // a schedule's, not one within the input
			var started time.Time
			handler := lambdafn.ScheduledHandler(
				func(context.Context, audit.Input) (any, error) { return nil, nil },
				func(at time.Time) audit.Input { started = at; return audit.Input{} },
				slog.New(slog.DiscardHandler))
			if _, err := handler.Invoke(t.Context(), event); err != nil || started.IsZero() {
				t.Errorf("%s: event.json is not understood as the schedule's event: %v", folder, err)
			}
			continue
		}
		if err := accepts(operation, event); err != nil {
			t.Errorf("%s refuses its own event.json: %v", folder, err)
		}
	}
}
