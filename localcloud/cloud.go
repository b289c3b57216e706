package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"iamkeys/pkg/awsconfig"
)

// The local cloud's account. The emulators and the demo agree on it.
const (
	accountID = "123456789012"
	region    = "us-east-1"
)

// A Cloud is a running local AWS: both emulators, the gateway in front of them
// and, after Deploy, the project's stack.
type Cloud struct {
	*gateway
	Endpoint string // the developers' door, for AWS_ENDPOINT_URL
	Dir      string // logs and temporary files of this run; removed by Stop

	door      string // the functions' endpoint, where calls are counted
	root      string
	servers   []*http.Server
	emulators []*emulator
	built     string            // fingerprint of the sources that Dir has a build of
	resources map[string]string // physical IDs by logical ID
}

// Options of Start.
type Options struct {
	Root     string    // the project's folder
	Progress io.Writer // what is being done, for a person; nil for silence
	LogLevel string    // of the functions: DEBUG, INFO (also when empty), ...
}

// Start sets up what is missing and starts the local cloud. Stop must be
// called; a Cloud whose process dies without it takes its emulators along.
func Start(ctx context.Context, o Options) (*Cloud, error) {
	return startWith(ctx, o, (*Cloud).start)
}

// StartIdentity starts moto alone: IAM, STS, Secrets Manager and what else is
// moto's, which is all that the adapters' contract tests need.
func StartIdentity(ctx context.Context, o Options) (*Cloud, error) {
	return startWith(ctx, o, func(c *Cloud, ctx context.Context, o Options) error {
		if err := c.startMoto(); err != nil {
			return err
		}
		return c.ready(ctx)
	})
}

func startWith(ctx context.Context, o Options, start func(*Cloud, context.Context, Options) error) (*Cloud, error) {
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if err := setup(ctx, o.Root, o.Progress); err != nil {
		return nil, fmt.Errorf("setting up the local cloud: %w", err)
	}
	dir, err := runFolder(o.Root)
	if err != nil {
		return nil, err
	}
	c := &Cloud{Dir: dir, root: o.Root}
	if err := start(c, ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the local cloud: %w", err), c.Stop())
	}
	return c, nil
}

// runFolder makes the folder of this run, and removes those of runs that were
// killed before they could.
func runFolder(root string) (string, error) {
	parent := filepath.Join(root, ".localcloud")
	old, err := filepath.Glob(filepath.Join(parent, "run-*-*"))
	if err != nil {
		return "", fmt.Errorf("looking for the folders of earlier runs: %w", err)
	}
	for _, dir := range old {
		var process int
		_, err := fmt.Sscanf(filepath.Base(dir), "run-%d-", &process)
		if err == nil && errors.Is(syscall.Kill(process, 0), syscall.ESRCH) {
			os.RemoveAll(dir) // what cannot be removed now is tried again by the next run
		}
	}
	dir, err := os.MkdirTemp(parent, fmt.Sprintf("run-%d-", os.Getpid()))
	if err != nil {
		return "", fmt.Errorf("making the run's folder: %w", err)
	}
	return dir, nil
}

func (c *Cloud) startMoto() error {
	moto, err := c.startEmulator("moto", "/moto-api/", nil)
	if err != nil {
		return err
	}
	c.gateway = &gateway{moto: moto.url}
	return nil
}

// ready waits until every emulator answers.
func (c *Cloud) ready(ctx context.Context) error {
	for _, e := range c.emulators {
		if err := e.ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cloud) start(ctx context.Context, o Options) error {
	if err := c.startMoto(); err != nil {
		return err
	}
	// The doors open before ministack does: it must know the functions' one.
	var err error
	if c.door, err = c.serve(loopback, c.functions()); err != nil {
		return err
	}
	if c.Endpoint, err = c.serve(loopback, c.developers()); err != nil {
		return err
	}
	temporary := filepath.Join(c.Dir, "tmp")
	if err := os.Mkdir(temporary, 0o755); err != nil {
		return fmt.Errorf("making the emulators' temporary folder: %w", err)
	}
	ministack, err := c.startEmulator("ministack", "/_ministack/health", []string{
		"AWS_ENDPOINT_URL=" + c.door, // the functions inherit it
		"IOT_MTLS_ENABLED=0", "MINISTACK_ACCOUNT_ID=" + accountID, "MINISTACK_REGION=" + region,
		"SFN_WAIT_SCALE=0", // the waits of workflows take no time
		"TMPDIR=" + temporary,
		// As Lambda sets them from the template's LoggingConfig; ministack does not.
		"AWS_LAMBDA_LOG_FORMAT=JSON", "AWS_LAMBDA_LOG_LEVEL=" + cmp.Or(o.LogLevel, "INFO"),
	})
	if err != nil {
		return err
	}
	c.ministack = ministack.url
	return c.ready(ctx)
}

// Stop ends the emulators and the functions they started, and removes the
// run's folder. It may be called again.
func (c *Cloud) Stop() error {
	var errs []error
	for _, s := range c.servers {
		errs = append(errs, s.Close())
	}
	for _, e := range c.emulators {
		errs = append(errs, e.stop())
	}
	c.servers, c.emulators = nil, nil
	errs = append(errs, os.RemoveAll(c.Dir))
	return errors.Join(errs...)
}

// loopback is the address that nobody else's machine reaches.
const loopback = "127.0.0.1"

// serve opens one of the gateway's doors on a free port of this address.
func (c *Cloud) serve(address string, h http.Handler) (endpoint string, err error) {
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return "", fmt.Errorf("opening the gateway: %w", err)
	}
	s := &http.Server{Handler: h}
	c.servers = append(c.servers, s)
	go s.Serve(l) // ends with Close
	return "http://" + l.Addr().String(), nil
}

// Config is the AWS configuration of a developer in the local cloud. Calls
// made with it are not counted, nor made to fail.
func (c *Cloud) Config() aws.Config {
	return awsconfig.At(c.Endpoint, region, "test", "test")
}

// wire speaks to the local cloud without an SDK.
func (c *Cloud) wire() wire { return wire{endpoint: c.Endpoint} }

// Environment points any AWS tool at the local cloud.
func (c *Cloud) Environment() []string {
	return []string{
		"AWS_ENDPOINT_URL=" + c.Endpoint, "AWS_REGION=" + region, "AWS_DEFAULT_REGION=" + region,
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test",
	}
}

// inherited is this process's environment without what could lead a tool to a
// real AWS account or through a proxy.
func inherited() []string {
	// Python keeps what it compiled: three programs of this size start ten times in a demo.
	env := []string{"NO_PROXY=127.0.0.1,localhost", "no_proxy=127.0.0.1,localhost", "PYTHONDONTWRITEBYTECODE="}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "AWS_") && !strings.EqualFold(name, "no_proxy") && name != "PYTHONDONTWRITEBYTECODE" {
			env = append(env, v)
		}
	}
	return append(env, "AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull, "AWS_EC2_METADATA_DISABLED=true")
}

// post calls the launcher's own endpoints.
func (c *Cloud) post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encoding the request for %s: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.moto.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("calling %s: %w", path, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("calling %s: %w", path, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s refused: %s", path, answer)
	}
	return json.Unmarshal(answer, out)
}

// An emulator is one of the two servers behind the gateway.
type emulator struct {
	name  string
	url   *url.URL
	probe string // the path that answers 200 when it is ready
	log   string // the file with its output

	cmd   *exec.Cmd
	stdin io.Closer // its end is the emulator's
	ended chan struct{}
}

// startEmulator starts an emulator and hands the socket that it listens on over
// to it: between a look for a free port and its use, another program could take
// the port, and even answer for the emulator.
func (c *Cloud) startEmulator(name, probe string, env []string) (*emulator, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return nil, fmt.Errorf("opening a port for %s: %w", name, err)
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		return nil, fmt.Errorf("opening a port for %s: %w", name, err)
	}
	defer socket.Close() // or calls would wait here for an emulator that ended
	address := l.Addr().(*net.TCPAddr)
	e := &emulator{
		name: name, probe: probe, log: filepath.Join(c.Dir, name+".log"), ended: make(chan struct{}),
		url: &url.URL{Scheme: "http", Host: address.String()},
	}
	out, err := os.Create(e.log)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", name, err)
	}
	defer out.Close()
	e.cmd = exec.Command(program(c.root, "python"), filepath.Join(c.root, "localcloud", "launcher.py"), name, fmt.Sprint(address.Port))
	e.cmd.ExtraFiles = []*os.File{socket} // the first is always file descriptor 3
	// Python's caches go below .localcloud, too.
	e.cmd.Env = append(append(inherited(), "PYTHONPYCACHEPREFIX="+filepath.Join(c.root, ".localcloud", "pycache")), env...)
	e.cmd.Stdout, e.cmd.Stderr = out, out
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if e.stdin, err = e.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", name, err)
	}
	if err := e.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		e.cmd.Wait() // how it ended shows in its log
		close(e.ended)
	}()
	c.emulators = append(c.emulators, e)
	return e, nil
}

// ready waits until the emulator answers, for at most two minutes: a busy
// machine takes its time to load so much Python, and one that ends is told at once.
func (e *emulator) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url.JoinPath(e.probe).String(), nil)
		if err != nil {
			return fmt.Errorf("asking %s whether it is ready: %w", e.name, err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-e.ended:
			return fmt.Errorf("%s ended while starting; the last lines of its log:\n%s", e.name, e.lastLines())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready (%w); the last lines of its log:\n%s", e.name, ctx.Err(), e.lastLines())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (e *emulator) lastLines() string {
	out, err := os.ReadFile(e.log)
	if err != nil {
		return err.Error()
	}
	return tail(out, 20)
}

// stop ends the emulator with all the functions it started. There is no state
// that it would have to save.
func (e *emulator) stop() error {
	e.stdin.Close() // may be closed already, by the emulator's own end
	err := syscall.Kill(-e.cmd.Process.Pid, syscall.SIGKILL)
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("ending %s (process %d): %w", e.name, e.cmd.Process.Pid, err)
	}
	<-e.ended
	return nil
}
