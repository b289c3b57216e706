package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// setup makes the Python environment with both emulators and the SAM CLI, if it
// is not there: setup.py says how, and says so on progress.
func setup(ctx context.Context, root string, progress io.Writer) error {
	var failed bytes.Buffer
	cmd := command(ctx, "python3", filepath.Join(root, "localcloud", "setup.py"))
	cmd.Stdout, cmd.Stderr = progress, &failed
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("the local cloud needs Python 3.10 or newer with the venv module, and there is no python3 on the PATH")
	}
	if err != nil {
		return fmt.Errorf("installing the local cloud's programs: %w\n%s", err, tail(failed.Bytes(), 25))
	}
	return nil
}

// program is a program of the Python environment.
func program(root, name string) string {
	return filepath.Join(root, ".localcloud", "python", "bin", name)
}

// projectRoot is the folder with localcloud/launcher.py, here or above.
func projectRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the project's folder: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "localcloud", "launcher.py")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("this is not inside the iamkeys project: run it in a clone of it")
		}
		dir = parent
	}
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

// tail is the last lines of a program's output.
func tail(out []byte, lines int) string {
	all := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// untilOrphaned ends the context when the process that started this one is
// gone: `go run` and make pass on no signal but the terminal's.
func untilOrphaned(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	parent := os.Getppid()
	go func() {
		for os.Getppid() == parent {
			time.Sleep(time.Second)
		}
		cancel()
	}()
	return ctx
}
