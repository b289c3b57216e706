package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestCredentialProcess runs the script that README gives consumers, over a
// stand-in for the AWS CLI that answers with a secret's value.
func TestCredentialProcess(t *testing.T) {
	dir := t.TempDir()
	value := `{"Version":1,"AccessKeyId":"AKIAIOSFODNN7EXAMPLE","SecretAccessKey":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY","UserName":"ci-deploy","CreateDate":"2026-11-23T09:00:00Z"}`
	cli := "#!/bin/sh\necho \"$*\" >" + filepath.Join(dir, "asked") + "\necho '" + value + "'\n"
	if err := os.WriteFile(filepath.Join(dir, "aws"), []byte(cli), 0o700); err != nil {
		t.Fatal(err)
	}
	script := exec.Command("sh", filepath.Join("..", "docs", "credential-process.sh"), "iamkeys/ci-deploy/access-key", "bootstrap")
	script.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := script.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var got struct {
		Version                      int
		AccessKeyId, SecretAccessKey string
		Expiration                   time.Time
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if left := time.Until(got.Expiration); got.Version != 1 || got.AccessKeyId != "AKIAIOSFODNN7EXAMPLE" || got.SecretAccessKey == "" || left < 58*time.Minute || left > 61*time.Minute {
		t.Errorf("got %+v", got)
	}
	asked, _ := os.ReadFile(filepath.Join(dir, "asked"))
	want := "--profile bootstrap secretsmanager get-secret-value --secret-id iamkeys/ci-deploy/access-key --version-stage AWSCURRENT --query SecretString --output text\n"
	if string(asked) != want {
		t.Errorf("asked the CLI for %q, want %q", asked, want)
	}
}
