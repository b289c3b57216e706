package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// samVersion is the SAM CLI that the project is built and deployed with. One
// on the PATH serves if it is this version or a newer one below 2.
const samVersion = "1.170.0"

// An Environment is a Python virtual environment of the project's own, made
// from a file of pinned requirements.
type Environment struct {
	Dir          string // below .localcloud in the project
	Requirements string // the pins; a change of them makes the environment anew
}

// Path is the environment's program of that name.
func (e Environment) Path(program string) string { return filepath.Join(e.Dir, "bin", program) }

// Tools are the programs that the local cloud runs beside Go.
type Tools struct {
	Python string // with moto and ministack
	SAM    string
}

// setup makes what is missing of the tools, says so on progress, and returns
// where they are. Two setups at a time take turns.
func setup(ctx context.Context, root string, progress io.Writer) (Tools, error) {
	dir := filepath.Join(root, ".localcloud")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Tools{}, fmt.Errorf("making the local cloud's folder: %w", err)
	}
	unlock, err := lock(filepath.Join(dir, "setup.lock"))
	if err != nil {
		return Tools{}, err
	}
	defer unlock()

	emulators := Environment{filepath.Join(dir, "emulators"), filepath.Join(root, "localcloud", "emulators.txt")}
	sam := Environment{filepath.Join(dir, "sam"), filepath.Join(root, "localcloud", "sam.txt")}
	tools := Tools{Python: emulators.Path("python"), SAM: sam.Path("sam")}
	environments := []Environment{emulators, sam}
	if path, ok := samOnPath(ctx); ok {
		tools.SAM = path
		environments = environments[:1]
	}

	var missing []Environment
	for _, e := range environments {
		if !e.current() {
			missing = append(missing, e)
		}
	}
	if len(missing) == 0 {
		return tools, nil
	}
	python, err := findPython(ctx)
	if err != nil {
		return Tools{}, err
	}
	return tools, makeAll(ctx, python, missing, progress)
}

// makeAll makes the environments side by side: most of an install is waiting.
func makeAll(ctx context.Context, python string, environments []Environment, progress io.Writer) error {
	var out sync.Mutex
	say := func(format string, args ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Fprintf(progress, format+"\n", args...)
	}
	errs := make([]error, len(environments))
	var running sync.WaitGroup
	for i, e := range environments {
		running.Go(func() {
			began := time.Now()
			say("  making .localcloud/%s from localcloud/%s (about a minute, once) ...", filepath.Base(e.Dir), filepath.Base(e.Requirements))
			if errs[i] = e.make(ctx, python); errs[i] == nil {
				say("  .localcloud/%s is ready (%.0f s)", filepath.Base(e.Dir), time.Since(began).Seconds())
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// stamp is what an environment made from today's pins has in its stamp file.
func (e Environment) stamp() (string, error) {
	pins, err := os.ReadFile(e.Requirements)
	if err != nil {
		return "", fmt.Errorf("reading the pinned requirements: %w", err)
	}
	sum := sha256.Sum256(pins)
	return hex.EncodeToString(sum[:]), nil
}

// current tells whether the environment was made to its end from today's pins
// and its interpreter still runs (the system's Python may have been replaced).
func (e Environment) current() bool {
	want, err := e.stamp()
	if err != nil {
		return false
	}
	got, err := os.ReadFile(filepath.Join(e.Dir, "stamp"))
	if err != nil || string(got) != want {
		return false
	}
	return exec.Command(e.Path("python"), "-c", "").Run() == nil
}

func (e Environment) make(ctx context.Context, python string) error {
	name := filepath.Base(e.Dir)
	want, err := e.stamp()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(e.Dir); err != nil {
		return fmt.Errorf("removing the old %s environment: %w", name, err)
	}
	if out, err := command(ctx, python, "-m", "venv", e.Dir).CombinedOutput(); err != nil {
		return fmt.Errorf("making the %s environment failed: %w\n%s\nPython's venv module is needed: on Debian and Ubuntu, install the package python3-venv", name, err, tail(out, 20))
	}
	pip := command(ctx, e.Path("python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-compile", "--requirement", e.Requirements)
	if out, err := pip.CombinedOutput(); err != nil {
		return fmt.Errorf("installing localcloud/%s failed: %w\n%s\npip must reach a Python package index once (PyPI, or a mirror named by PIP_INDEX_URL); behind a proxy, set HTTPS_PROXY; then run the same command again", filepath.Base(e.Requirements), err, tail(out, 20))
	}
	if err := os.WriteFile(filepath.Join(e.Dir, "stamp"), []byte(want), 0o644); err != nil {
		return fmt.Errorf("noting that the %s environment is complete: %w", name, err)
	}
	return nil
}

// findPython returns the first interpreter on the PATH that is 3.10 or newer
// and has the venv module with pip.
func findPython(ctx context.Context) (string, error) {
	const probe = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))"
	seen := ""
	for _, name := range []string{"python3", "python3.13", "python3.12", "python3.11", "python3.10"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if out, err := command(ctx, path, "-c", probe).CombinedOutput(); err == nil {
			return path, nil
		} else if seen == "" {
			version, _ := command(ctx, path, "--version").CombinedOutput()
			seen = strings.TrimRight(fmt.Sprintf(" (%s is %s; %s", path, bytes.TrimSpace(version), tail(out, 1)), "; ") + ")"
		}
	}
	return "", fmt.Errorf("the local cloud needs Python 3.10 or newer with the venv module, and none is on the PATH%s: install it with `apt install python3 python3-venv`, `dnf install python3`, `brew install python`, or from python.org", seen)
}

func samOnPath(ctx context.Context) (string, bool) {
	path, err := exec.LookPath("sam")
	if err != nil {
		return "", false
	}
	out, err := command(ctx, path, "--version").Output()
	if err != nil {
		return "", false
	}
	fields := strings.Fields(string(out)) // "SAM CLI, version 1.170.0"
	return path, len(fields) > 0 && serves(fields[len(fields)-1], samVersion)
}

// serves tells whether version is want or newer, with the same major number.
func serves(version, want string) bool {
	v, w := strings.Split(version, "."), strings.Split(want, ".")
	if len(v) < 3 || v[0] != w[0] {
		return false
	}
	for i := 1; i < 3; i++ {
		have, err := strconv.Atoi(v[i])
		need, _ := strconv.Atoi(w[i])
		if err != nil || have != need {
			return err == nil && have > need
		}
	}
	return true
}

// command is a command in a process group of its own, so that Ctrl-C reaches
// this program alone. When ctx ends, the group is asked to end, and 10 s later
// the command is made to.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the setup's lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("waiting for another setup to end: %w", err)
	}
	return func() { f.Close() }, nil
}

// tail is the last lines of a program's output.
func tail(out []byte, lines int) string {
	all := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
