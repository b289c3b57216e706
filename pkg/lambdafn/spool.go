package lambdafn

import (
	"fmt"
	"os"

	"iamkeys/pkg/iamkeys/audit"
)

// Spool gives a temporary file, which is gone when it is closed or the function ends.
func Spool() (audit.Spool, error) {
	f, err := os.CreateTemp("", "iamkeys-")
	if err != nil {
		return nil, fmt.Errorf("making a temporary file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil { // it lives on while it is open
		_ = f.Close() // what was wrong with it is told
		return nil, fmt.Errorf("making a temporary file: %w", err)
	}
	return f, nil
}
