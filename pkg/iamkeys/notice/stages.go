package notice

import (
	"slices"

	"iamkeys/pkg/iamkeys"
)

// A Stage is an occasion to tell people.
type Stage string

// A Kind is what a message is about, and its attribute of that name.
type Kind string

// The kinds.
const (
	KindAudit      Kind = "audit"
	KindRotation   Kind = "rotation"
	KindRetirement Kind = "retirement"
	KindExposure   Kind = "exposure"
)

// A way is one of the things that a notice can be about.
type way struct {
	field string // of the input
	kind  Kind
	list  bool // of what a schedule nominated, and not one key
}

var (
	rotation   = way{"rotation", KindRotation, false}
	due        = way{"due", KindRotation, true}
	retirement = way{"retirement", KindRetirement, false}
	unused     = way{"unused", KindRetirement, true}
	exposure   = way{"exposure", KindExposure, false}
)

// A row of the table of stages: when people are told, what the subject says, how the
// keys stand, and the text. A new stage is a row here and a text in its kind's file;
// validation, attributes, JSON and docs/notices.md are made from the rows.
type row struct {
	of       way
	stage    Stage
	when     string
	headline string // in a few words; of a list what one is, and what more are; %s is the error, or the day that comes
	old, new string // how the keys stand
	text     func(situation) text
}

var stages = []row{
	{rotation, "ready", "the new key is delivered", "the new key is ready", "left as it is", "Active, delivered", ready},
	{rotation, "reminder", "half the wait is over", "half the time is over, the old key is still on", lastSeen, lastSeen, reminder},
	{rotation, "off", "the old key is Inactive", "the old key is switched off", "Inactive", lastSeen, off},
	{rotation, "done", "the old key is deleted", "done, the old key is deleted", "deleted", lastSeen, done},
	{rotation, failed, "the rotation ended early", failedWith, lastSeen, lastSeen, endedInWait},
	{due, "planned", "RotationMode is plan, and keys are due", "rotation would start/rotations would start", "", "", rotationsPlanned},
	{due, "started", "RotationMode is apply, and keys are due", "rotation is being started/rotations are being started", "", "", rotationsStarted},

	{retirement, "warning", "the key was idle for RetireAfterDays", "unused, will be switched off on %s", "Active", "", warning},
	{retirement, "final", "three days before the key may be switched off", "last warning, will be switched off on %s", "Active", "", final},
	{retirement, "retired", "the key is Inactive", "the key is switched off", "Inactive", "", retired},
	{retirement, "kept", "something has stopped the retirement", "the key is kept", "as it was", "", keptInUse},
	{retirement, "rolledBack", "the key was reactivated or used in its soak", "the key is on again, and is kept", "Active again", "", reactivated},
	{retirement, "removed", "the key is gone", "the key is gone", "deleted", "", removed},
	{retirement, failed, "the retirement ended early", failedWith, lastSeen, "", failedBeforeOff},
	{exposure, "exposed", "AWS Health reports a key in public", "access key was found in public/access keys were found in public", "", "", exposedKeys},
	{exposure, "off", "a key is off whose switch-off AWS throttled at first", "the access key found in public is off", "", "", switchedOff},
	{exposure, failed, "a key in public could not be switched off", "an access key found in public may still be on", "", "", notSwitchedOff},
	{unused, "planned", "RetirementMode is plan, and keys are unused", "key would be warned of/keys would be warned of", "", "", retirementsPlanned},
	{unused, "started", "RetirementMode is apply, and keys are unused", "retirement is being started/retirements are being started", "", "", retirementsStarted},
}

const failed Stage = "failed" // of every way

const (
	failedWith = "failed with %s" // the error

	lastSeen      = "Active when last seen" // and may have changed since, or been changed by a function whose answer was lost
	notDelivered  = "not Active or not delivered"
	maybeInactive = "Inactive, as far as is known"
)

// An answer is a row of the second table: what a stage says instead when a step
// answered so. What is empty is as in the stage's own row.
type answer struct {
	of       way
	stage    Stage
	start    iamkeys.Start  // the step that was next
	codes    []iamkeys.Code // any when there is none
	headline string
	old, new string
	text     func(situation) text
}

const (
	anyStep   iamkeys.Start = "any"
	unplanned iamkeys.Start = ""     // it was refused before anything was changed
	noAnswer  iamkeys.Code  = "none" // a function died, or its answer was lost
)

func only(codes ...iamkeys.Code) []iamkeys.Code { return codes }

// answers is searched from the top. Only KeyInUse is said of an Active key
// alone; what any other error left is not known for certain, and not said as if it were.
var answers = []answer{
	{rotation, "reminder", anyStep, only(iamkeys.KeyInUse), "", "Active", "Active, delivered", nil},
	{rotation, "reminder", anyStep, only(iamkeys.NotAdopted), "half the time is over, the new key is not in use", "Active, as far as is known", "Active, delivered", nil},
	{rotation, "done", iamkeys.StartDeactivate, nil, "done, the old key is gone", "not found under this user", "", goneInWait},

	{rotation, failed, unplanned, only(iamkeys.InProgress), "not begun, another one goes first", "unchanged", "", anotherFirst},
	{rotation, failed, unplanned, nil, "", "unchanged", "", refused},
	{rotation, failed, iamkeys.StartCreate, only(iamkeys.OrphanedKey), "", "Active", "", orphaned},
	{rotation, failed, iamkeys.StartCreate, only(iamkeys.NoSuchEntity), "ended, the user or its old key is gone", "not found any more", "", goneBeforeCreate},
	{rotation, failed, iamkeys.StartCreate, only(noAnswer), "", "Active", "", createDied},
	{rotation, failed, iamkeys.StartCreate, nil, "", "Active", "", notCreated},
	{rotation, failed, anyStep, only(iamkeys.RolledBack), "rolled back, the old key is Active again", "Active again", "", wentBack},
	{rotation, failed, anyStep, only(iamkeys.NoSuchEntity), "ended, the user is gone or renamed", "not found under this user", "not found under this user", userGone},
	{rotation, failed, iamkeys.StartSoak, only(iamkeys.NotReplaced), "", maybeInactive, notDelivered, notReplacedInSoak},
	{rotation, failed, iamkeys.StartSoak, only(iamkeys.NotAdopted), "ended, nothing uses the new key", maybeInactive, "Active, not in use", notAdoptedInSoak},
	{rotation, failed, iamkeys.StartSoak, only(iamkeys.KeyInUse), "ended, the old key was used", "Inactive", "", usedInSoak},
	{rotation, failed, iamkeys.StartSoak, only(iamkeys.AccessDenied), "", maybeInactive, "", deniedInSoak},
	{rotation, failed, iamkeys.StartSoak, only(iamkeys.NotifyFailed), "", "Inactive, or deleted", "", nobodyToldInSoak},
	{rotation, failed, iamkeys.StartSoak, nil, "", maybeInactive, "", endedInSoak},
	{rotation, failed, anyStep, only(iamkeys.KeyInUse), "failed, the old key is still in use", "Active", "Active", stillInUse},
	{rotation, failed, anyStep, only(iamkeys.NotAdopted), "failed, the new key is not in use", "Active, as far as is known", "Active", neverAdopted},
	{rotation, failed, anyStep, only(iamkeys.NotReplaced), "", "", notDelivered, notReplacedInWait},
	{rotation, failed, anyStep, only(iamkeys.NotifyFailed), "", "Active, as far as is known", "Active", nobodyTold},

	{retirement, "kept", anyStep, only(iamkeys.NoSuchEntity), "the user is gone or renamed", "not found under this user", "", keptUserGone},
	{retirement, "kept", ours, nil, "the key stays off, and is not deleted", maybeInactive, "", keptAfterOff},
	{retirement, "kept", notOurs, nil, "the key was off already, and is not deleted", "Inactive", "", keptNotOurs},
	{retirement, "kept", anyStep, only(iamkeys.KeyExempt), "the key is kept, its user is exempt", "", "", keptExempt},
	{retirement, "kept", anyStep, only(iamkeys.Protected), "the key is kept, its user is protected", "", "", keptProtected},
	{retirement, "kept", anyStep, only(iamkeys.RetirementOff), "the key is kept, retirements are off", "", "", keptOff},
	{retirement, "kept", anyStep, only(iamkeys.InProgress), "the key is kept, another one goes first", "", "", keptForAnother},
	{retirement, "rolledBack", anyStep, only(iamkeys.KeyInUse), "the key was used, and is kept", "Inactive", "", usedAfterAll},
	{retirement, failed, unplanned, nil, "", "unchanged", "", notLearnt},
	{retirement, failed, ours, only(iamkeys.NotifyFailed), "", "Inactive, Active again, or deleted, as far as is known", "", untoldAfterOff},
	{retirement, failed, ours, nil, "", maybeInactive, "", failedAfterOff},
	{retirement, failed, notOurs, nil, "", "Inactive", "", keptNotOurs},
	{retirement, failed, anyStep, only(iamkeys.NotifyFailed), "", "as it was", "", unwarned},

	{exposure, "exposed", closed, nil, "AWS has closed its event about keys found in public", "", "", exposureClosed},
	{exposure, "exposed", suspected, nil, "access key may be in public/access keys may be in public", "", "", exposureSuspected},
}

// A number of a rotation or retirement, and the most that it may be.
type number struct {
	field    string
	is, most int
}

// More than a function answers, and little enough to be a date.
const (
	mostDays  = 10 * 365
	mostPolls = 10_000
)

// inRange refuses, with InvalidInput, a number that no function answers.
func inRange(all ...number) error {
	for _, n := range all {
		if n.is < 0 || n.is > n.most {
			return iamkeys.Refuse(iamkeys.InvalidInput, "%s must be 0 to %d; got %d.", n.field, n.most, n.is)
		}
	}
	return nil
}

// rowOf gives the stage's row, with what the first answer that fits says instead.
func rowOf(m matter, name Stage, code iamkeys.Code) (r row, ok bool) {
	i := slices.IndexFunc(stages, func(r row) bool { return r.of == m.of && r.stage == name })
	if i < 0 {
		return r, false
	}
	r = stages[i]
	named := slices.Contains(iamkeys.Codes, code) || code == iamkeys.RolledBack
	i = slices.IndexFunc(answers, func(a answer) bool {
		return a.of == m.of && a.stage == name && (a.start == anyStep || a.start == m.start) &&
			(a.codes == nil || slices.Contains(a.codes, code) || !named && slices.Contains(a.codes, noAnswer))
	})
	if i < 0 {
		return r, true
	}
	a := answers[i]
	for said, instead := range map[*string]string{&r.headline: a.headline, &r.old: a.old, &r.new: a.new} {
		if instead != "" {
			*said = instead
		}
	}
	if a.text != nil {
		r.text = a.text
	}
	return r, true
}
