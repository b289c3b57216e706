// Localcloud is the local AWS of iamkeys: two emulators behind one endpoint,
// with the project's real template deployed to them by the real SAM CLI.
//
//	go run ./localcloud demo                    shows what iamkeys does, from nothing to the end
//	go run ./localcloud up [ADDRESS]            starts a cloud that stays until Ctrl-C
//	go run ./localcloud invoke list event.json  invokes a function, in the cloud that is up or in one of its own
//	go run ./localcloud test                    runs all tests, those on the local cloud too
//	go run ./localcloud bench                   measures what the README quotes
//
// Files: setup.py installs the programs of programs.go, cloud.go runs the emulators,
// gateway.go stands in front of them, deploy.go builds, deploys and invokes,
// seed.go fills the accounts, demo.go tells the story, a demo_*.go each chapter,
// bench.go measures, benchaudit.go and benchorganization.go the audits.
// launcher.py starts the emulators from the inside; access.py, correct_moto.py
// and correct_ministack.py correct them where they differ from AWS, seed.py
// fills moto's accounts.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: go run ./localcloud <command>

  demo                     show what iamkeys does, from nothing to the end
  up [ADDRESS]             start a local cloud that stays until Ctrl-C; at ADDRESS of
                           this machine, containers find it too
  invoke FUNCTION EVENT    invoke a function (list, create, ...) with an event file
  test [go test flags]     run all tests, those on the local cloud too
  bench [organization]     measure sizes, starts and calls, or the organization's audit alone
`

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	ctx = untilOrphaned(ctx)
	if err := run(ctx, os.Args[1:]); err != nil {
		if ctx.Err() != nil {
			fmt.Fprintln(os.Stderr, "localcloud: interrupted; everything is stopped")
		} else {
			fmt.Fprintln(os.Stderr, "localcloud:", err)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	command := ""
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	root, err := projectRoot()
	if err != nil {
		return err
	}
	switch {
	case command == "demo" && len(args) == 0:
		return demo(ctx, root, os.Stdout)
	case command == "up" && len(args) <= 1:
		return up(ctx, root, strings.Join(args, ""))
	case command == "invoke" && len(args) == 2:
		return invoke(ctx, root, args[0], args[1])
	case command == "bench" && len(args) == 0:
		return bench(ctx, root, os.Stdout)
	case command == "bench" && slices.Equal(args, []string{"organization"}):
		return benchOrganization(ctx, root, os.Stdout)
	case command == "test":
		return test(ctx, root, args)
	}
	fmt.Fprint(os.Stderr, usage)
	return errors.New("no such command")
}

// up starts a cloud, deploys the stack and waits until it is told to end. An
// address opens a door there for containers, which on Linux do not reach
// 127.0.0.1; whoever reaches it can run code as this user does.
func up(ctx context.Context, root, address string) (err error) {
	if there, ok := runningCloud(ctx, root); ok {
		return fmt.Errorf("a local cloud is up already, at %s (process %d)", there.Endpoint, there.Process)
	}
	fmt.Fprintln(os.Stderr, "Starting the local cloud ...")
	c, err := Start(ctx, Options{Root: root, Progress: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	fmt.Fprintln(os.Stderr, "Deploying template.yaml, with the demo's account ...")
	if err := c.deployDemo(ctx); err != nil {
		return err
	}
	// Docker Desktop's name for this machine, with what listens on its loopback.
	containers := strings.Replace(c.Endpoint, loopback, "host.docker.internal", 1)
	if address != "" {
		if containers, err = c.serve(address, c.developers()); err != nil {
			return err
		}
	}
	forget, err := announce(root, c)
	if err != nil {
		return err
	}
	defer forget()
	if forget, err = c.describeForSAM(root, containers); err != nil {
		return err
	}
	defer forget()

	fmt.Fprintln(os.Stderr, "The local cloud is up; Ctrl-C ends it. In another terminal:")
	fmt.Fprintln(os.Stderr)
	for _, v := range c.Environment() {
		fmt.Println("export", v)
	}
	fmt.Fprintf(os.Stderr, "\nLogs: %s\n", c.Dir)
	<-ctx.Done()
	return nil
}

// running describes the cloud of an `up` to other commands.
type running struct {
	Process   int               `json:"process"`
	Endpoint  string            `json:"endpoint"`
	Sources   string            `json:"sources"` // fingerprint of what is deployed
	Resources map[string]string `json:"resources"`
}

func announcement(root string) string { return filepath.Join(root, ".localcloud", "up.json") }

// announce tells other commands of this cloud until forget is called.
func announce(root string, c *Cloud) (forget func(), err error) {
	sources, err := fingerprint(root)
	if err != nil {
		return nil, err
	}
	note, err := json.Marshal(running{os.Getpid(), c.Endpoint, sources, c.resources})
	if err != nil {
		return nil, fmt.Errorf("describing the running cloud: %w", err)
	}
	path := announcement(root)
	if err := os.WriteFile(path, note, 0o600); err != nil {
		return nil, fmt.Errorf("noting the running cloud: %w", err)
	}
	return func() { os.Remove(path) }, nil
}

// describeForSAM writes the file for `sam local invoke --env-vars`: where a
// container finds this cloud, and the names that SAM, which knows of no stack,
// replaces by logical IDs. It is there until forget is called.
func (c *Cloud) describeForSAM(root, endpoint string) (forget func(), err error) {
	variables := map[string]string{"AWS_ENDPOINT_URL": endpoint}
	for name, logicalID := range map[string]string{
		"REPORT_BUCKET":                "ReportBucket",
		"NOTIFICATION_TOPIC_ARN":       "NotificationTopic",
		"ROTATION_STATE_MACHINE_ARN":   "RotationStateMachine",
		"RETIREMENT_STATE_MACHINE_ARN": "RetirementStateMachine",
	} {
		if variables[name], err = c.Resource(logicalID); err != nil {
			return nil, err
		}
	}
	file, err := json.MarshalIndent(map[string]any{"Parameters": variables}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("describing the cloud for SAM: %w", err)
	}
	path := filepath.Join(root, ".localcloud", "env.json")
	if err := os.WriteFile(path, append(file, '\n'), 0o600); err != nil {
		return nil, fmt.Errorf("describing the cloud for SAM: %w", err)
	}
	return func() { os.Remove(path) }, nil
}

// runningCloud returns the cloud that another process keeps up, if it answers.
func runningCloud(ctx context.Context, root string) (running, bool) {
	var there running
	note, err := os.ReadFile(announcement(root))
	if err != nil || json.Unmarshal(note, &there) != nil {
		return running{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, there.Endpoint+"/_ministack/health", nil)
	if err != nil {
		return running{}, false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return running{}, false
	}
	resp.Body.Close()
	return there, resp.StatusCode == http.StatusOK
}

// invoke prints a function's answer on standard output and its log on standard
// error. A function's error is one of this command's too.
func invoke(ctx context.Context, root, function, eventFile string) (err error) {
	event, err := os.ReadFile(eventFile)
	if err != nil {
		return fmt.Errorf("reading the event: %w", err)
	}
	c, stop, err := deployed(ctx, root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	id, err := c.functionID(function)
	if err != nil {
		return err
	}
	result, err := c.Invoke(ctx, id, event)
	if err != nil {
		return err
	}
	if result.Log != "" {
		fmt.Fprintln(os.Stderr, strings.TrimRight(result.Log, "\n"))
	}
	fmt.Println(string(result.Payload))
	if result.ErrorType != "" {
		return fmt.Errorf("%s answered %s: %s", id, result.ErrorType, result.Message)
	}
	return nil
}

// deployed returns a cloud with today's sources deployed: the one that is up,
// or one of its own, with the demo's account, that stop ends.
func deployed(ctx context.Context, root string) (c *Cloud, stop func() error, err error) {
	there, ok := runningCloud(ctx, root)
	if ok {
		sources, err := fingerprint(root)
		if err != nil {
			return nil, nil, err
		}
		if err := setup(ctx, root, os.Stderr); err != nil {
			return nil, nil, err
		}
		dir, err := runFolder(root)
		if err != nil {
			return nil, nil, err
		}
		c := &Cloud{Endpoint: there.Endpoint, Dir: dir, root: root, resources: there.Resources}
		if sources == there.Sources {
			return c, c.Stop, nil
		}
		fmt.Fprintln(os.Stderr, "The sources changed: deploying again ...")
		if err := c.Deploy(ctx, demoParameters); err != nil {
			return nil, nil, errors.Join(err, c.Stop())
		}
		there.Sources, there.Resources = sources, c.resources
		note, err := json.Marshal(there)
		if err == nil {
			err = os.WriteFile(announcement(root), note, 0o600)
		}
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("noting what is deployed: %w", err), c.Stop())
		}
		return c, c.Stop, nil
	}
	fmt.Fprintln(os.Stderr, "No local cloud is up: starting one for this call ...")
	if c, err = Start(ctx, Options{Root: root, Progress: os.Stderr}); err != nil {
		return nil, nil, err
	}
	if err := c.deployDemo(ctx); err != nil {
		return nil, nil, errors.Join(err, c.Stop())
	}
	return c, c.Stop, nil
}

// deployDemo deploys the stack and seeds the demo's accounts, for a person to
// try things on.
func (c *Cloud) deployDemo(ctx context.Context) error {
	if err := c.Deploy(ctx, demoParameters); err != nil {
		return err
	}
	if _, err := c.Seed(ctx, demoAccount(time.Now())...); err != nil {
		return err
	}
	return c.organize(ctx)
}

// test runs all tests with the local cloud's switched on: IAMKEYS_LOCALCLOUD
// lets those in this folder start one of their own, and IAMKEYS_MOTO is the
// endpoint of an IAM, STS and Secrets Manager for the adapters' contract tests.
func test(ctx context.Context, root string, flags []string) (err error) {
	c, err := StartIdentity(ctx, Options{Root: root, Progress: os.Stdout})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	// The value is new in every run: go test may not answer from its cache,
	// which knows nothing of the template.
	env := append(os.Environ(), "IAMKEYS_LOCALCLOUD="+c.Dir, "IAMKEYS_MOTO="+c.moto.String())
	// What waits most goes first. make lint vets.
	return goTest(ctx, root, env, slices.Concat([]string{"test", "-vet=off", "-timeout=30m"}, flags, []string{"./localcloud", "./..."}))
}

func goTest(ctx context.Context, root string, env, args []string) error {
	cmd := command(ctx, "go", args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = root, env, os.Stdout, os.Stderr
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return errors.New("the tests failed")
	}
	if err != nil {
		return fmt.Errorf("running go test: %w", err)
	}
	return nil
}
