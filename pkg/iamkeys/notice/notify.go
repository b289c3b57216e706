package notice

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
)

// Notify tells people where one key stands, or what a schedule would start and has
// started: what it can tell are the stages of stages.go.
type Notify struct {
	Send    Send
	S3      iamkeys.PutObject // for the markers by which exposed knows what was told
	Account string            // its ID, twelve digits
	Zone    *time.Location    // in which people are told times; nil is UTC
	Now     func() time.Time
	Log     *slog.Logger
}

// Input is what Notify takes: a stage, and the one thing that it is about, as the
// function answered it.
type Input struct {
	Stage        Stage               `json:"stage"`
	Rotation     *Rotation           `json:"rotation,omitempty"`
	Error        *StepError          `json:"error,omitempty"`        // the latest answer
	EarlierError *StepError          `json:"earlierError,omitempty"` // another answer in the wait, before that
	Due          *audit.DueOutput    `json:"due,omitempty"`
	Retirement   *Retirement         `json:"retirement,omitempty"`
	Unused       *audit.UnusedOutput `json:"unused,omitempty"`
	Exposure     *Exposure           `json:"exposure,omitempty"`
}

// matters gives whatever the input holds that a notice can be about.
func (in Input) matters() (there []matter) {
	if in.Rotation != nil {
		there = append(there, ofRotation(*in.Rotation))
	}
	if in.Due != nil {
		there = append(there, ofDue(*in.Due))
	}
	if in.Retirement != nil {
		there = append(there, ofRetirement(*in.Retirement))
	}
	if in.Unused != nil {
		there = append(there, ofUnused(*in.Unused))
	}
	if in.Exposure != nil {
		there = append(there, ofExposure(*in.Exposure))
	}
	return there
}

// A StepError is an error as Step Functions caught it. Message may be Lambda's
// JSON of the error.
type StepError struct {
	Name    string `json:"name"`
	Message string `json:"message"`
}

// Output is what Notify returns; MessageID is null when there was nothing to send.
type Output struct {
	MessageID *string `json:"messageId"`
}

// Validate refuses a malformed input with InvalidInput.
func (in Input) Validate() error {
	_, _, err := in.about()
	return err
}

// about gives what the notice is about, and its stage's row.
func (in Input) about() (matter, row, error) {
	var names, fields []string // of every stage, and what this one can be about
	for _, r := range stages {
		names = append(names, string(r.stage))
		if r.stage == in.Stage {
			fields = append(fields, r.of.field)
		}
	}
	there := in.matters()
	switch {
	case len(fields) == 0:
		slices.Sort(names)
		return matter{}, row{}, iamkeys.Refuse(iamkeys.InvalidInput, "stage must be one of %s; got %s.", strings.Join(slices.Compact(names), ", "), iamkeys.Quoted(string(in.Stage)))
	case len(there) == 0:
		return matter{}, row{}, iamkeys.Refuse(iamkeys.InvalidInput, "%s is missing: the stage %s goes with what the function of that name, or plan for a rotation, answered.", strings.Join(fields, " or "), in.Stage)
	case len(there) > 1:
		return matter{}, row{}, iamkeys.Refuse(iamkeys.InvalidInput, "%s and %s do not go together: a notice is about one thing.", there[0].of.field, there[1].of.field)
	}
	s := there[0]
	r, ok := rowOf(s, in.Stage, in.Error.code())
	switch {
	case !ok:
		return s, r, iamkeys.Refuse(iamkeys.InvalidInput, "%s does not go with the stage %s, %s does.", s.of.field, in.Stage, strings.Join(fields, " or "))
	case r.of.list && (in.Error != nil || in.EarlierError != nil):
		return s, r, iamkeys.Refuse(iamkeys.InvalidInput, "error and earlierError do not go with the stage %s.", in.Stage)
	}
	return s, r, s.check(in.Stage)
}

// Run publishes the notice; a failure to do so is NotifyFailed. An empty list is not sent.
func (o Notify) Run(ctx context.Context, in Input) (Output, error) {
	in = in.short()
	in.Error, in.EarlierError = in.Error.plain(), in.EarlierError.plain()
	if in.Error != nil && in.EarlierError != nil && *in.Error == *in.EarlierError {
		in.EarlierError = nil
	}
	about, r, err := in.about()
	if err != nil || r.of.list && about.count == 0 || in.Exposure != nil && !in.Exposure.untold(in.Stage) {
		return Output{}, err
	}
	id, err := o.Send.Publish(ctx, message(situation{Input: in, matter: about, row: r, account: o.Account, now: o.Now(), zone: cmp.Or(o.Zone, time.UTC)}))
	if err != nil {
		return Output{}, iamkeys.Failed(iamkeys.NotifyFailed, err, "The notice %s could not be published (%s); nothing else has changed.", in.Stage, iamkeys.CodeOf(err))
	}
	o.Log.InfoContext(ctx, "published notice", "stage", in.Stage, "messageId", id)
	if in.Exposure != nil && in.Stage == "exposed" {
		o.mark(ctx, *in.Exposure, id)
	}
	return Output{&id}, nil
}

// maxID is how long IAM's key IDs are at most, in bytes.
const maxID = 128

// short cuts a key ID that can be none: where nothing was learnt of a key, its ID is what
// the execution was started with, and of a page of text SNS might refuse the notice.
func (in Input) short() Input {
	if r := in.Rotation; r != nil && len(value(r.AccessKeyID)) > maxID {
		cut := *r
		cut.AccessKeyID = new(iamkeys.Quoted(*r.AccessKeyID))
		in.Rotation = &cut
	}
	if r := in.Retirement; r != nil && len(r.AccessKeyID) > maxID {
		cut := *r
		cut.AccessKeyID = iamkeys.Quoted(r.AccessKeyID)
		in.Retirement = &cut
	}
	return in
}

// mark notes of each key that people were told. Where that fails, they may be told again.
func (o Notify) mark(ctx context.Context, e Exposure, messageID string) {
	content, _ := json.Marshal(map[string]string{"messageId": messageID, "time": o.Now().UTC().Format(time.RFC3339)}) // strings always marshal
	marked := map[string]bool{}
	for _, k := range e.Keys {
		if !k.First || marked[k.Entity] {
			continue
		}
		marked[k.Entity] = true
		if err := o.S3.PutObject(ctx, iamkeys.ExposureMarker(e.Exposure, k.Entity), "application/json", bytes.NewReader(content), nil); err != nil {
			o.Log.WarnContext(ctx, "the notice was sent, and may be sent again: its marker could not be written", "code", iamkeys.CodeOf(err), "error", err.Error())
		}
	}
}

// code is the error's name, "" without an error.
func (e *StepError) code() iamkeys.Code {
	if e == nil {
		return ""
	}
	return iamkeys.Code(e.Name)
}

// maxCause is how much of an error's message a notice tells, in bytes; with more of
// two messages SNS might refuse it.
const maxCause = 4000

// plain unwraps the message that Lambda writes for a function's error.
func (e *StepError) plain() *StepError {
	if e == nil {
		return nil
	}
	plain := StepError{Name: e.Name, Message: e.Message}
	var lambda struct {
		ErrorMessage string `json:"errorMessage"`
	}
	if json.Unmarshal([]byte(e.Message), &lambda) == nil && lambda.ErrorMessage != "" {
		plain.Message = lambda.ErrorMessage
	}
	if len(plain.Message) > maxCause {
		plain.Message = strings.ToValidUTF8(plain.Message[:maxCause], "") + " ..."
	}
	return &plain
}
