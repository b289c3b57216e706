package iamkeys

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// A Secret is a secret access key. It cannot be printed, formatted, logged or
// marshalled: every such way gives "[secret]" or an error. It holds a function,
// not the text, so that printers that walk unexported fields find nothing.
type Secret struct{ reveal func() string }

var errSecret = errors.New("a secret access key cannot be marshalled")

// NewSecret wraps a secret access key.
func NewSecret(value string) Secret { return Secret{func() string { return value }} }

// Reveal gives the secret access key in clear, the empty string for the zero
// Secret. Only the adapters that store it (awssecrets) and sign the probe with
// it (awssts) call this; a test says so.
func (s Secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// String gives "[secret]".
func (Secret) String() string { return "[secret]" }

// Format writes "[secret]" whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }

// LogValue gives "[secret]".
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalJSON fails.
func (Secret) MarshalJSON() ([]byte, error) { return nil, errSecret }

// MarshalText fails.
func (Secret) MarshalText() ([]byte, error) { return nil, errSecret }

// MarshalBinary fails, and with it encoding/gob.
func (Secret) MarshalBinary() ([]byte, error) { return nil, errSecret }

// Credentials are a new access key with its secret, as CreateAccessKey gives it
// once. They stay in the process that asked for them.
type Credentials struct {
	UserName    string
	AccessKeyID string
	CreateDate  time.Time
	Secret      Secret
}
