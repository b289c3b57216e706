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
	"sync"
	"time"
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
	if err := benchOrganization(ctx, root, w); err != nil {
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
	for _, id := range c.functionIDs() {
		name, err := c.Resource(id)
		if err != nil {
			return err
		}
		var f struct {
			Environment struct{ Variables map[string]string }
		}
		if err := c.wire().rest(ctx, "lambda", http.MethodGet, "/2015-03-31/functions/"+name+"/configuration", nil, &f); err != nil {
			return fmt.Errorf("reading the configuration of %s: %w", id, err)
		}
		env := []string{"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_REGION=" + region, "AWS_LAMBDA_FUNCTION_NAME=" + name}
		for variable, value := range f.Environment.Variables {
			env = append(env, variable+"="+value)
		}
		binary := filepath.Join(c.Dir, "build", id, "bootstrap")
		info, err := os.Stat(binary)
		if err != nil {
			return fmt.Errorf("measuring the binary of %s: %w", id, err)
		}
		var ours, others []time.Duration
		for range starts {
			for path, all := range map[string]*[]time.Duration{binary: &ours, hello: &others} {
				m, err := measure(ctx, path, env, "")
				if err != nil {
					return err
				}
				*all = append(*all, m.start)
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

// A measured start of a function's binary.
type measured struct {
	start  time.Duration // from the process's start to its first poll of the runtime API
	took   time.Duration // from there to the answer
	peak   string        // MiB of resident memory
	answer []byte
	log    string
}

// measure starts a function's binary behind a runtime API of its own. With an
// event it runs until the event is answered, without one until it asks for one.
func measure(ctx context.Context, binary string, env []string, event string) (m measured, err error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute) // as long as an invocation may take
	defer cancel()
	l, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return m, fmt.Errorf("opening a runtime API: %w", err)
	}
	var once sync.Once
	polled, answered := make(chan time.Time, 1), make(chan []byte, 1)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			body, _ := io.ReadAll(r.Body)
			answered <- body
			w.WriteHeader(http.StatusAccepted)
			return
		}
		first := false
		once.Do(func() { first = true; polled <- time.Now() })
		if !first || event == "" {
			<-r.Context().Done() // there is no invocation, or no second one
			return
		}
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", fmt.Sprintf("bench-%d", time.Now().UnixNano()))
		w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(15*time.Minute).UnixMilli()))
		_, _ = io.WriteString(w, event)
	})}
	go s.Serve(l) // ends with Close
	defer s.Close()

	var out strings.Builder
	cmd := exec.CommandContext(ctx, binary)
	cmd.Env = append(slices.Clone(env), "AWS_LAMBDA_RUNTIME_API="+l.Addr().String())
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return m, fmt.Errorf("starting %s: %w", binary, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var first time.Time
	select {
	case first = <-polled:
		m.start = first.Sub(began)
	case err := <-ended:
		return m, fmt.Errorf("%s ended before its first poll (%v)\n%s", binary, err, out.String())
	}
	if event != "" {
		select {
		case m.answer = <-answered:
			m.took = time.Since(first)
			m.peak, err = peakMemory(cmd.Process.Pid)
		case err := <-ended:
			return m, fmt.Errorf("%s ended before its answer (%v)\n%s", binary, err, out.String())
		}
	}
	cancel()
	<-ended
	m.log = out.String()
	return m, err
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
