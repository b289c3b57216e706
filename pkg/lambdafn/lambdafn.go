// Package lambdafn is the edge between AWS Lambda and the core: it decodes
// events strictly, names errors, logs, and reads settings. A function's main is
//
//	env := lambdafn.Environment()
//	op := iamkeys.List{IAM: awsiam.New(env.AWS()), Now: time.Now}
//	if err := env.Err(); err != nil {
//		log.Fatal(err)
//	}
//	lambdafn.Start(op.Run)
package lambdafn

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"iamkeys/pkg/iamkeys"
)

// An Input is what an operation takes.
type Input interface {
	// Validate refuses a malformed input with [iamkeys.InvalidInput].
	Validate() error
}

// Start serves Lambda events with run. It does not return.
func Start[In Input, Out any](run func(context.Context, In) (Out, error)) {
	serve(Handler(run, logger()))
}

// StartScheduled is [Start] for an operation that schedules start as well: the
// event of a schedule becomes the input that scheduled gives for the event's
// time, which is zero if the event has none.
func StartScheduled[In Input, Out any](run func(context.Context, In) (Out, error), scheduled func(time.Time) In) {
	serve(ScheduledHandler(run, scheduled, logger()))
}

func logger() *slog.Logger { return lambdacontext.NewLogger().With("version", iamkeys.Version) }

func serve(h lambda.Handler) {
	log.SetFlags(0)
	log.SetOutput(withoutErrors{os.Stderr})
	lambda.Start(h)
}

// Handler gives the handler that [Start] serves, for tests.
func Handler[In Input, Out any](run func(context.Context, In) (Out, error), log *slog.Logger) lambda.Handler {
	return handler[In, Out]{run: run, log: log}
}

// ScheduledHandler gives the handler that [StartScheduled] serves, for tests.
func ScheduledHandler[In Input, Out any](run func(context.Context, In) (Out, error), scheduled func(time.Time) In, log *slog.Logger) lambda.Handler {
	return handler[In, Out]{run, scheduled, log}
}

type handler[In Input, Out any] struct {
	run       func(context.Context, In) (Out, error)
	scheduled func(time.Time) In // nil for an operation that no schedule starts
	log       *slog.Logger
}

// Invoke implements [lambda.Handler].
func (h handler[In, Out]) Invoke(ctx context.Context, event []byte) (answer []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		if err != nil {
			answer, err = nil, h.named(ctx, err)
		}
	}()
	in, err := h.input(event)
	if err != nil {
		return nil, err
	}
	if err := in.Validate(); err != nil {
		return nil, err
	}
	out, err := h.run(ctx, in)
	if err != nil {
		return nil, err
	}
	if answer, err = json.Marshal(out); err != nil {
		return nil, fmt.Errorf("encoding the output: %w", err)
	}
	return answer, nil
}

func (h handler[In, Out]) input(event []byte) (in In, err error) {
	if h.scheduled != nil {
		if at, ok := scheduledTime(event); ok {
			return h.scheduled(at), nil
		}
	}
	return in, decode(event, &in)
}

// scheduledTime tells an event of EventBridge, from a Scheduler or a rule, by its
// detail-type, and gives its time. Its detail, which is a string or an object,
// says nothing more.
func scheduledTime(event []byte) (at time.Time, ok bool) {
	var fields map[string]json.RawMessage
	var kind string
	if json.Unmarshal(event, &fields) != nil || json.Unmarshal(fields["detail-type"], &kind) != nil || kind == "" {
		return at, false
	}
	if json.Unmarshal(fields["time"], &at) != nil {
		at = time.Time{}
	}
	return at, true
}

// named gives err as Lambda reports it to the caller, under its code, and logs
// it: here, once. Details stay in the log.
func (h handler[In, Out]) named(ctx context.Context, err error) error {
	code, message := iamkeys.CodeOf(err), ""
	if e, ok := errors.AsType[*iamkeys.Error](err); ok {
		message = e.Message
	}
	if code == iamkeys.Internal {
		if message == "" {
			message = "Something unexpected happened."
		}
		message += " The log of request " + RequestID(ctx) + " has the details."
	}
	h.log.LogAttrs(ctx, level(code), "refused or failed", slog.String("code", string(code)), slog.String("error", err.Error()))
	return messages.InvokeResponse_Error{Type: string(code), Message: message}
}

// level tells whom an error concerns: its caller (Info), somebody who watches
// (Warn), or somebody who must act (Error).
func level(code iamkeys.Code) slog.Level {
	switch code {
	case iamkeys.InvalidInput, iamkeys.NoSuchEntity, iamkeys.LimitExceeded, iamkeys.SecretInUse, iamkeys.InProgress,
		iamkeys.KeyInUse, iamkeys.NotReplaced, iamkeys.NotAdopted, iamkeys.KeyActive, iamkeys.AmbiguousKeys,
		iamkeys.Protected, iamkeys.KeyExempt, iamkeys.RetirementOff:
		return slog.LevelInfo
	case iamkeys.SecretUnavailable, iamkeys.DeliveryFailed, iamkeys.Throttled:
		return slog.LevelWarn
	}
	return slog.LevelError
}

// withoutErrors drops the lines in which the Lambda library prints every error
// that a handler returns: those are logged already.
type withoutErrors struct{ io.Writer }

func (w withoutErrors) Write(line []byte) (int, error) {
	if bytes.HasPrefix(line, []byte(`{"errorMessage":`)) {
		return len(line), nil
	}
	return w.Writer.Write(line)
}

// RequestID gives the ID of the invocation, which a retry of an asynchronous one keeps.
func RequestID(ctx context.Context) string {
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		return lc.AwsRequestID
	}
	return "unknown"
}

// Sleep waits for d; it fails when ctx is done before.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
