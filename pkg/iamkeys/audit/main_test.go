package audit_test

import (
	"flag"
	"log/slog"
	"os"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
)

const (
	user = "ci-deploy"
	day  = 24 * time.Hour
)

var quiet = slog.New(slog.DiscardHandler)

func wantCode(t *testing.T, err error, want iamkeys.Code) {
	t.Helper()
	if got := iamkeys.CodeOf(err); got != want {
		t.Errorf("got %v, want code %q", err, want)
	}
}

// TestMain makes property tests thorough unless the command line says otherwise.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "3000"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
