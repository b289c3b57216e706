package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

const (
	bootstrapLimit = 10 << 20 // bytes of a function's binary
	auditLimit     = 12 << 20 // of the audit's, which writes to S3
	starts         = 25       // of each binary; the median counts
)

// bench prints the figures that the README quotes, each with its method. It
// measures; tests do not depend on time.
func bench(ctx context.Context, root string, w io.Writer) (err error) {
	c, err := Start(ctx, Options{Root: root, Progress: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	fmt.Fprintln(os.Stderr, "Deploying template.yaml ...")
	if err := c.Deploy(ctx, map[string]string{"PropagationSeconds": "0"}); err != nil {
		return err
	}
	if err := c.benchBinaries(ctx, w); err != nil {
		return err
	}
	if err := c.benchCalls(ctx, w); err != nil {
		return err
	}
	if err := c.benchAudit(ctx, w); err != nil {
		return err
	}
	if err := c.Stop(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nBenchmarks in Go\n")
	cmd := command(ctx, "go", "test", "-run", "^$", "-bench", ".", "-benchmem", "./pkg/...", "./functions/...", "./statemachines/...")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "Benchmark") {
			fmt.Fprint(w, "  ", line)
		}
	}
	if err != nil {
		return fmt.Errorf("running the benchmarks: %w", err)
	}
	return nil
}

// benchBinaries measures the size of each function's binary, and the time from
// its start to its first poll of the runtime API beside a hello-world function
// that is started in turn with it.
func (c *Cloud) benchBinaries(ctx context.Context, w io.Writer) error {
	hello := filepath.Join(c.Dir, "hello")
	build := command(ctx, "go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w", "-o", hello, "./localcloud/testdata/hello")
	build.Dir, build.Env = c.root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the hello-world function: %w\n%s", err, out)
	}
	fmt.Fprintf(w, "Functions: size of the binary, and process start to first runtime poll,\nmedian of %d starts in turn with a hello-world function in Go\n", starts)
	fmt.Fprintf(w, "  %-20s %9s %9s %9s %7s\n", "", "MiB", "ms", "hello ms", "ratio")
	client := lambda.NewFromConfig(c.Config())
	for _, id := range c.functionIDs() {
		name, err := c.Resource(id)
		if err != nil {
			return err
		}
		f, err := client.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &name})
		if err != nil {
			return fmt.Errorf("reading the configuration of %s: %w", id, err)
		}
		env := []string{"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_REGION=" + region, "AWS_LAMBDA_FUNCTION_NAME=" + name}
		if f.Environment != nil {
			for variable, value := range f.Environment.Variables {
				env = append(env, variable+"="+value)
			}
		}
		binary := filepath.Join(c.Dir, "build", id, "bootstrap")
		info, err := os.Stat(binary)
		if err != nil {
			return fmt.Errorf("measuring the binary of %s: %w", id, err)
		}
		var ours, others []time.Duration
		for range starts {
			for path, all := range map[string]*[]time.Duration{binary: &ours, hello: &others} {
				took, err := toFirstPoll(ctx, path, env)
				if err != nil {
					return err
				}
				*all = append(*all, took)
			}
		}
		limit := bootstrapLimit
		if id == "AuditFunction" {
			limit = auditLimit
		}
		over := ""
		if info.Size() > int64(limit) {
			over = fmt.Sprintf("  over the budget of %d MiB", limit>>20)
		}
		a, b := median(ours), median(others)
		fmt.Fprintf(w, "  %-20s %9.1f %9.1f %9.1f %7.1f%s\n", id, float64(info.Size())/(1<<20), milliseconds(a), milliseconds(b), float64(a)/float64(b), over)
	}
	return nil
}

// toFirstPoll starts a function's binary and returns the time until it asks the
// runtime API for its first invocation.
func toFirstPoll(ctx context.Context, binary string, env []string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	polled := make(chan time.Time, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("opening a runtime API: %w", err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case polled <- time.Now():
		default:
		}
		<-r.Context().Done() // there is no invocation
	})}
	go s.Serve(l) // ends with Close
	defer s.Close()

	var out strings.Builder
	cmd := exec.CommandContext(ctx, binary)
	cmd.Env = append(slices.Clone(env), "AWS_LAMBDA_RUNTIME_API="+l.Addr().String())
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("starting %s: %w", binary, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case at := <-polled:
		cancel()
		<-ended
		return at.Sub(began), nil
	case err := <-ended:
		return 0, fmt.Errorf("%s ended before its first poll: %w\n%s", binary, err, out.String())
	}
}

// benchCalls counts the AWS calls of each operation on the deployed stack.
func (c *Cloud) benchCalls(ctx context.Context, w io.Writer) error {
	now := time.Now()
	old := AccessKey{AccessKeyID: "AKIABENCHOLD00000001", CreateDate: now.Add(-100 * day), LastUsedDate: now.Add(-20 * day)}
	young := AccessKey{AccessKeyID: "AKIABENCHNEW00000001", CreateDate: now.Add(-10 * day), LastUsedDate: now.Add(-time.Hour)}
	off := AccessKey{AccessKeyID: "AKIABENCHOFF00000001", CreateDate: now.Add(-100 * day)}
	on := AccessKey{AccessKeyID: "AKIABENCHREADY000001", CreateDate: now.Add(-100 * day), Status: "Inactive"}
	_, err := c.Seed(ctx, User{UserName: "bench", AccessKeys: []AccessKey{old, young}}, User{UserName: "bench-new"},
		User{UserName: "bench-off", AccessKeys: []AccessKey{off}}, User{UserName: "bench-on", AccessKeys: []AccessKey{on}})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\nAWS calls an operation, counted on the local cloud\n")
	for _, op := range []struct{ what, function, event string }{
		{"list", "ListFunction", `{"userName": "bench"}`},
		{"lastused of 2 keys", "LastUsedFunction", `{"userName": "bench"}`},
		{"deactivate", "DeactivateFunction", `{"userName": "bench-off", "accessKeyId": "` + off.AccessKeyID + `"}`},
		{"deactivate, replacedBy", "DeactivateFunction", `{"userName": "bench", "accessKeyId": "` + old.AccessKeyID + `", "replacedBy": "` + young.AccessKeyID + `"}`},
		{"activate", "ActivateFunction", `{"userName": "bench-on", "accessKeyId": "` + on.AccessKeyID + `"}`},
		{"delete", "DeleteFunction", `{"userName": "bench-off", "accessKeyId": "` + off.AccessKeyID + `"}`},
		{"create", "CreateFunction", `{"userName": "bench-new"}`},
		{"create, again", "CreateFunction", `{"userName": "bench-new"}`},
	} {
		c.Forget()
		if _, err := c.call(ctx, op.function, []byte(op.event), nil); err != nil {
			return err
		}
		polls := 0
		for _, call := range c.Calls() {
			if call.Action == "sts:GetCallerIdentity" {
				polls++
			}
		}
		plus := ""
		if polls > 0 {
			plus = ", and " + count(polls, "poll")
		}
		fmt.Fprintf(w, "  %-24s %d%s\n", op.what, len(c.Calls())-polls, plus)
	}
	return nil
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
