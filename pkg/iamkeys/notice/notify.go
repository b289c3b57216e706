package notice

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
)

// Notify tells people where a rotation stands, or what the scheduled rotation
// would start and has started.
type Notify struct {
	SNS iamkeys.Publish
	Now func() time.Time
	Log *slog.Logger
}

// A Stage is an occasion to tell people.
type Stage string

// The stages: of one rotation, and of the scheduled rotation.
const (
	StageReady    Stage = "ready"    // the new key is delivered, both keys are Active
	StageReminder Stage = "reminder" // half the wait is over, and the old key is still on
	StageOff      Stage = "off"      // the old key is Inactive, and will be deleted after the soak
	StageDone     Stage = "done"     // the old key is deleted
	StageFailed   Stage = "failed"   // the rotation has ended early
	StagePlanned  Stage = "planned"  // what would be rotated; nothing was started
	StageStarted  Stage = "started"  // what was started
)

var stages = []Stage{StageReady, StageReminder, StageOff, StageDone, StageFailed, StagePlanned, StageStarted}

// NotifyInput is what Notify takes: a stage with its rotation, and the error
// there is to tell; or, for planned and started, with what is due.
type Input struct {
	Stage        Stage             `json:"stage"`
	Rotation     *iamkeys.Rotation `json:"rotation,omitempty"`
	Error        *StepError        `json:"error,omitempty"`        // the latest answer
	EarlierError *StepError        `json:"earlierError,omitempty"` // another answer in the wait, before that
	Due          *audit.DueOutput  `json:"due,omitempty"`
}

// A StepError is an error as Step Functions caught it. Message may be Lambda's
// JSON of the error.
type StepError struct {
	Name    string `json:"name"`
	Message string `json:"message"`
}

// NotifyOutput is what Notify returns; MessageID is null when there was nothing to send.
type Output struct {
	MessageID *string `json:"messageId"`
}

// Validate refuses a malformed input with InvalidInput.
func (in Input) Validate() error {
	switch in.Stage {
	case StagePlanned, StageStarted:
		if in.Due == nil {
			return iamkeys.Refuse(iamkeys.InvalidInput, "due is missing: the stage %s goes with what the due function returned.", in.Stage)
		}
		if in.Rotation != nil || in.Error != nil || in.EarlierError != nil {
			return iamkeys.Refuse(iamkeys.InvalidInput, "rotation, error and earlierError do not go with the stage %s, due does.", in.Stage)
		}
	case StageReady, StageReminder, StageOff, StageDone, StageFailed:
		if in.Rotation == nil {
			return iamkeys.Refuse(iamkeys.InvalidInput, "rotation is missing: the stage %s goes with what the plan function returned.", in.Stage)
		}
		if in.Due != nil {
			return iamkeys.Refuse(iamkeys.InvalidInput, "due does not go with the stage %s, rotation does.", in.Stage)
		}
		if err := iamkeys.CheckUserName(in.Rotation.UserName); err != nil || in.Stage == StageFailed {
			return err
		}
		if r := in.Rotation; r.AccessKeyID == nil || r.SecretID == nil {
			return iamkeys.Refuse(iamkeys.InvalidInput, "rotation must have accessKeyId and secretId: the stage %s goes with what the plan function returned.", in.Stage)
		}
	default:
		return iamkeys.Refuse(iamkeys.InvalidInput, "stage must be one of %v; got %s.", stages, iamkeys.Quoted(string(in.Stage)))
	}
	return nil
}

// Run publishes the notice; a failure to do so is NotifyFailed. An empty list of
// what is due is not sent.
func (o Notify) Run(ctx context.Context, in Input) (Output, error) {
	var m iamkeys.Message
	switch {
	case in.Rotation != nil:
		m = o.rotationNotice(in.Stage, *in.Rotation, in.Error.plain(), in.EarlierError.plain())
	case len(in.Due.Rotations) == 0:
		return Output{}, nil
	default:
		m = dueNotice(in.Stage, *in.Due)
	}
	id, err := o.SNS.Publish(ctx, m)
	if err != nil {
		return Output{}, iamkeys.Failed(iamkeys.NotifyFailed, err, "The notice %s could not be published (%s); nothing else has changed.", in.Stage, iamkeys.CodeOf(err))
	}
	o.Log.InfoContext(ctx, "published notice", "stage", in.Stage, "messageId", id)
	return Output{&id}, nil
}

// A noticeJSON is the notice for machines.
type noticeJSON struct {
	Kind         string            `json:"kind"`
	Stage        Stage             `json:"stage"`
	Rotation     *iamkeys.Rotation `json:"rotation,omitempty"`
	Error        *StepError        `json:"error,omitempty"`
	EarlierError *StepError        `json:"earlierError,omitempty"`
	Due          *audit.DueOutput  `json:"due,omitempty"`
}

func (n noticeJSON) bytes() []byte {
	n.Kind = "rotation"
	b, _ := json.Marshal(n) // strings and numbers always marshal
	return b
}

// rotationNotice writes the notice of one rotation.
func (o Notify) rotationNotice(stage Stage, r iamkeys.Rotation, cause, earlier *StepError) iamkeys.Message {
	if earlier != nil && cause != nil && *earlier == *cause {
		earlier = nil
	}
	headline, text := o.words(stage, r, cause)
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n", capital(headline))
	fact := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-9s %s\n", name, value)
		}
	}
	oldState, newState := states(stage, r, cause)
	fact("User", r.UserName)
	fact("Owner", Printable(value(r.Owner)))
	fact("Old key", join(value(r.AccessKeyID), oldState))
	fact("New key", join(value(r.NewAccessKeyID), newState))
	fact("Secret", Printable(value(r.SecretID)))
	if cause != nil {
		fact("Error", Printable(cause.Name))
	}
	fmt.Fprintf(&b, "\n%s\n", text)
	tell := func(introduction string, e *StepError) {
		if e != nil {
			fmt.Fprintf(&b, "\n%s\n", Wrap("", "", Printable(introduction+" "+e.Name+":")))
			fmt.Fprintf(&b, "%s\n", Wrap("  ", "  ", Printable(cmp.Or(e.Message, "no details were given"))))
		}
	}
	tell("The last thing reported was", cause)
	tell("Before that, an attempt to switch the old key off met", earlier)
	return iamkeys.Message{
		Subject: subject(fmt.Sprintf("IAM key rotation %s: %s", r.UserName, headline)),
		Text:    b.String(),
		JSON:    noticeJSON{Stage: stage, Rotation: &r, Error: cause, EarlierError: earlier}.bytes(),
		Attributes: []iamkeys.Attribute{
			{Name: "kind", Value: "rotation"},
			{Name: "stage", Value: string(stage)},
			{Name: "userName", Value: r.UserName},
			{Name: "owner", Value: attributeText(value(r.Owner))},
		},
	}
}

// words says what happened, what to do, by when, and how to stop.
func (o Notify) words(stage Stage, r iamkeys.Rotation, cause *StepError) (headline, text string) {
	now := o.Now()
	by := func(seconds int) string {
		return now.Add(time.Duration(seconds) * time.Second).UTC().Format("2006-01-02 15:04 MST")
	}
	// switchBy is the last moment to move to the new key: after it the old one
	// cannot be idle for its quiet window before the wait ends.
	switchBy := func(wait int) string {
		if left := wait - r.QuietHours*3600; left > 0 {
			return "by " + by(left) + " at the latest"
		}
		return "at once"
	}
	old, secret := value(r.AccessKeyID), value(r.SecretID)
	stop := "To stop, stop the rotation's execution, which is named " + old + " unless somebody has named it otherwise. Both keys then stay as they are."
	switch stage {
	case StageReady:
		return "the new key is ready", paragraphs(
			"A new access key is in the current version of secret "+secret+". The old key still works, and so does the new one.",
			fmt.Sprintf("What to do, %s: let every consumer of %s read the secret again (those that read it at every start, or through credential_process with an Expiration, do so by themselves). Nobody needs to switch the old key off: that happens by itself once the old key has not been used for %d hours and the new one has been used.",
				switchBy(r.Polls*r.PollSeconds), r.UserName, r.QuietHours),
			fmt.Sprintf("If that has not come about by %s, the old key stays on, the rotation ends as failed, and you are told.", by(r.Polls*r.PollSeconds)),
			stop)
	case StageReminder:
		why := "the old key is still on."
		if cause != nil {
			switch iamkeys.Code(cause.Name) {
			case iamkeys.KeyInUse:
				why = "the old key is still on because something still uses it."
			case iamkeys.NotAdopted:
				why = "the old key is still on because nothing has used the new one yet."
			default:
				why = "the old key is still on, and the last attempt to switch it off met an error."
			}
		}
		return "half the time is over, the old key is still on", paragraphs(
			"Half of the time for this rotation is over, and "+why,
			fmt.Sprintf("What to do, %s: find the consumer of %s and let it read secret %s again. The old key is switched off once it has not been used for %d hours; on %s the rotation ends as failed otherwise, and both keys stay Active.",
				switchBy((r.Polls-r.RemindAtPoll)*r.PollSeconds), old, secret, r.QuietHours, by((r.Polls-r.RemindAtPoll)*r.PollSeconds)),
			stop)
	case StageOff:
		return "the old key is switched off", paragraphs(
			"The old key is Inactive. The rotation switches it off once it was idle for its quiet window and the new one is in use, unless somebody has switched it off before. Nothing is lost yet.",
			fmt.Sprintf("It will be deleted on %s. What to do: nothing, if all works. If something has stopped working, reactivate the old key at once, in the IAM console or with the activate function: the rotation then leaves it alone and says so.",
				by(r.SoakSeconds)))
	case StageDone:
		if r.Start != nil && *r.Start == iamkeys.StartDeactivate {
			return "done, the old key is gone", paragraphs(
				"Somebody has deleted the old key during the wait, so there is nothing left to switch off, and no way back to it.",
				fmt.Sprintf("What to do: see to it that every consumer of %s reads secret %s. Whether they do was not looked at.", r.UserName, secret))
		}
		return "done, the old key is deleted", paragraphs(
			"The old key has been deleted; there is no way back to it. The new key takes its place. Nothing is left to do.")
	}
	return o.failure(r, cause)
}

// failure says in which state a rotation that ended early has left the keys. A
// function that died, or whose answer was lost, may have done its work all the
// same: what is not known for certain is not said as if it were.
func (o Notify) failure(r iamkeys.Rotation, cause *StepError) (headline, text string) {
	name := iamkeys.Code("")
	if cause != nil {
		name = iamkeys.Code(cause.Name)
	}
	old, newKey, secret := value(r.AccessKeyID), value(r.NewAccessKeyID), value(r.SecretID)
	again := "Start the rotation again under another execution name when that is settled: it goes on from what it finds."
	headline = "failed"
	if name != "" {
		headline = "failed with " + Printable(string(name))
	}
	switch {
	case r.Start == nil:
		return headline, paragraphs("The rotation was refused before anything was changed: every key is as it was.", "What to do: see the reason below. "+again)
	case *r.Start == iamkeys.StartCreate && name == iamkeys.OrphanedKey:
		return headline, paragraphs("No new key is known to be delivered, and one may be left over: the reason below names it. The old key is as it was and stays Active.",
			"What to do: start the rotation again under another execution name in a few minutes. It settles a key that a dead create left, or tells which one to delete by hand.")
	case *r.Start == iamkeys.StartCreate && !slices.Contains(iamkeys.Codes, name):
		return headline, paragraphs("The create function gave no answer, so whether there is a new key is unknown: a key may be left over that nobody holds, or the secret may hold the new one already. The old key is as it was and stays Active, so nothing has stopped working.",
			"What to do: start the rotation again under another execution name in a few minutes. It goes on with the new key if that is delivered, and removes it if not.")
	case *r.Start == iamkeys.StartCreate:
		return headline, paragraphs("No new key is known to be delivered. The old key is as it was and stays Active, so nothing has stopped working.",
			"What to do: see the reason below. "+again+" If an attempt has died before this error, a key may be left over that nobody holds: the next rotation removes it.")
	case name == "RolledBack":
		return "rolled back, the old key is Active again", paragraphs(
			"Somebody reactivated the old key during its soak, so it was not deleted, and the rotation has ended. The new key is as it was.",
			fmt.Sprintf("What to do: find out what still needs %s and move it to the key in secret %s. Then start the rotation again under another execution name.", old, secret))
	case *r.Start == iamkeys.StartSoak && name == iamkeys.NotReplaced:
		return headline, paragraphs(
			fmt.Sprintf("The old key is Inactive and was NOT deleted, because the new key %s is not Active any more or secret %s does not deliver it any more. The user may be left without a working key.", newKey, secret),
			fmt.Sprintf("What to do, at once: reactivate %s in the IAM console or with the activate function if a consumer is broken. Then find out who changed the new key or the secret.", old))
	case *r.Start == iamkeys.StartSoak && name == iamkeys.NoSuchEntity:
		return "ended, the user is gone", paragraphs("The user is not there any more, and its keys went with it. There is nothing left to rotate.",
			fmt.Sprintf("What to do: nothing, if that was meant. Secret %s still holds the last key, which is of no use any more.", secret))
	case *r.Start == iamkeys.StartSoak:
		return headline, paragraphs("The old key is switched off and, as far as is known, not deleted.",
			fmt.Sprintf("What to do: see the reason below. Reactivate the old key if something has stopped working. Else start the rotation again under another execution name with accessKeyId %s, which takes up the soak again, or delete that key by hand when you are sure that nobody needs it.", old))
	case name == iamkeys.KeyInUse:
		return "failed, the old key is still in use", paragraphs("The wait is over and something still uses the old key. Both keys stay Active; nothing was switched off.",
			fmt.Sprintf("What to do: find the consumer of %s (CloudTrail names its calls) and let it read secret %s. %s", old, secret, again))
	case name == iamkeys.NotAdopted:
		return "failed, the new key is not in use", paragraphs("The wait is over and nothing has used the new key. Both keys stay Active; nothing was switched off.",
			fmt.Sprintf("What to do: let the consumers of %s read secret %s. %s", r.UserName, secret, again))
	case name == iamkeys.NotReplaced:
		return headline, paragraphs(
			fmt.Sprintf("The rotation has ended early, because the new key %s is not Active any more or secret %s does not deliver it any more. The old key was not switched off.", newKey, secret),
			"What to do: find out who changed the new key or the secret, and what its consumers hold now. "+again)
	case name == iamkeys.NotifyFailed:
		return headline, paragraphs("The new key is delivered, but nobody could be told, so the rotation has not gone on to switch the old key off. Both keys are Active.", "What to do: see the reason below. "+again)
	}
	return headline, paragraphs("The rotation has ended before the old key was seen switched off. Both keys were Active when last seen; an attempt that met an error may have switched the old one off all the same.",
		fmt.Sprintf("What to do: see the reason below and look at the keys of %s. Reactivate the old key if it is Inactive and something has stopped working. %s", r.UserName, again))
}

// lastSeen is the state of a key that may have changed, or been changed by a
// function whose answer was lost, since it was read.
const lastSeen = "Active when last seen"

// states says how the keys stand, as far as the workflow knows.
func states(stage Stage, r iamkeys.Rotation, cause *StepError) (old, newKey string) {
	name := iamkeys.Code("")
	if cause != nil {
		name = iamkeys.Code(cause.Name)
	}
	refused := name == iamkeys.KeyInUse || name == iamkeys.NotAdopted // which is said of an Active key only
	switch {
	case stage == StageReady, stage == StageReminder && refused:
		return "Active", "Active, delivered"
	case stage == StageReminder:
		return lastSeen, lastSeen
	case stage == StageOff:
		return "Inactive", lastSeen
	case stage == StageDone:
		return "deleted", lastSeen
	case r.Start == nil:
		return "unchanged", ""
	case *r.Start == iamkeys.StartCreate:
		return "Active", ""
	case *r.Start == iamkeys.StartSoak && name == iamkeys.NoSuchEntity:
		return "gone", "gone"
	case *r.Start == iamkeys.StartSoak && name == "RolledBack":
		return "Active again", lastSeen
	case *r.Start == iamkeys.StartSoak && name == iamkeys.NotReplaced:
		return "Inactive", "not Active or not delivered"
	case *r.Start == iamkeys.StartSoak:
		return "Inactive, as far as is known", lastSeen
	case name == iamkeys.NotReplaced:
		return lastSeen, "not Active or not delivered"
	case refused, name == iamkeys.NotifyFailed:
		return "Active", "Active"
	}
	return lastSeen, lastSeen
}

// dueNotice writes what the scheduled rotation would start, or has started.
func dueNotice(stage Stage, due audit.DueOutput) iamkeys.Message {
	headline := plural(len(due.Rotations), "rotation would start", "rotations would start")
	text := paragraphs("The scheduled rotation is in plan mode: it has started nothing and changed nothing. These are the keys that it would rotate.",
		"To let it, set the stack's parameter RotationMode to apply. To rotate one of them now, start an execution of the rotation's state machine, named by the key's ID, with the input {\"userName\": ...}. To keep one out, remove its user's tag "+iamkeys.TagRotate+".")
	if stage == StageStarted {
		headline = plural(len(due.Rotations), "rotation is being started", "rotations are being started")
		text = paragraphs("The scheduled rotation starts these rotations now, one execution each, named by the old key. Each sends its own notices.",
			"To stop one, stop its execution; until the old key is switched off, that changes nothing for its consumers.")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n%s\n\n", capital(headline), text)
	for _, r := range due.Rotations {
		fmt.Fprintf(&b, "%s  %s  %d days old%s\n    %s\n", Printable(r.AccessKeyID), Printable(r.UserName), r.AgeDays, owned(r.Owner), Printable(r.SecretID))
	}
	if len(due.SkippedCounts) > 0 {
		b.WriteString("\nSkipped, though they opted in:\n")
		for _, why := range slices.Sorted(maps.Keys(due.SkippedCounts)) {
			fmt.Fprintf(&b, "  %-20s %d\n", Printable(string(why)), due.SkippedCounts[why])
		}
		for _, s := range due.Skipped {
			fmt.Fprintf(&b, "    %s: %s\n", Printable(s.UserName), Printable(string(s.Reason)))
		}
	}
	if c := due.Coverage; !c.Complete {
		fmt.Fprintf(&b, "\nINCOMPLETE: %d of %d users could not be examined; more may be due.\n", c.Users-c.UsersExamined, c.Users)
	}
	return iamkeys.Message{
		Subject:    subject("IAM key rotation: " + headline),
		Text:       b.String(),
		JSON:       noticeJSON{Stage: stage, Due: &due}.bytes(),
		Attributes: []iamkeys.Attribute{{Name: "kind", Value: "rotation"}, {Name: "stage", Value: string(stage)}},
	}
}

func plural(n int, one, more string) string {
	if n == 1 {
		more = one
	}
	return fmt.Sprintf("%d %s", n, more)
}

func owned(owner *string) string {
	if owner == nil {
		return ""
	}
	return ", owner " + Printable(*owner)
}

// maxCause is how much of a message a notice tells, in bytes; with more of two
// messages SNS might refuse it.
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

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func join(id, state string) string {
	if id == "" {
		return ""
	}
	return Printable(id) + "  " + state
}

// paragraphs wraps each text and sets them apart.
func paragraphs(texts ...string) string {
	for i := range texts {
		texts[i] = Wrap("", "", Printable(texts[i]))
	}
	return strings.Join(texts, "\n\n")
}
