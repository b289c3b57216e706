package iamkeys

import (
	"context"
	"slices"
	"time"
)

// A Rotation is one old key on its way to being replaced: the state of a
// rotation's workflow, and its output. Fields that are null are not known yet.
type Rotation struct {
	UserName       string  `json:"userName"`
	AccessKeyID    *string `json:"accessKeyId"` // the old key
	NewAccessKeyID *string `json:"newAccessKeyId"`
	SecretID       *string `json:"secretId"`
	SecretARN      *string `json:"secretArn"`
	Overwrite      bool    `json:"overwrite"` // allow a secret whose value iamkeys did not write
	Owner          *string `json:"owner"`
	Start          *Start  `json:"start"`        // the step that is next
	QuietHours     int     `json:"quietHours"`   // how long the old key must be idle before it is switched off, hours
	PollSeconds    int     `json:"pollSeconds"`  // between two attempts to switch it off, seconds
	Polls          int     `json:"polls"`        // attempts at most
	RemindAtPoll   int     `json:"remindAtPoll"` // after this attempt the reminder is sent
	SoakDays       int     `json:"soakDays"`     // how long it stays Inactive before it is deleted, days

	ServiceName *string `json:"serviceName,omitempty"` // of the old key's last use, where its consumers have more to do than read the secret again: ses
}

// A Start is a step of a rotation that a workflow may start at.
type Start string

// The steps.
const (
	StartCreate     Start = "create"     // the new key is to be made
	StartDeactivate Start = "deactivate" // the new key is delivered, the old one is to be switched off, or is off already
	StartSoak       Start = "soak"       // the old key is Inactive; a workflow gets there, none starts there
)

// PlanIAM is what create's decision is read from, and all that [Plan] asks of IAM.
type PlanIAM interface {
	GetUser
	ListAccessKeys
	GetAccessKeyLastUsed
}

// Plan resolves a rotation: which key, which secret, every number, and where to
// start. It changes nothing, and refuses what create would refuse, by create's
// own decision.
type Plan struct {
	IAM            PlanIAM
	SecretsManager DescribeSecret
	StepFunctions  ExecutionsOfUsers
	Secrets        SecretNames
	OwnerTag       string
	QuietHours     int // defaults of the input's fields, from the stack's parameters
	PollHours      int
	MaxWaitDays    int
	SoakDays       int
	Now            func() time.Time
}

// PlanInput is what Plan takes: a rotation's input.
type PlanInput struct {
	UserName    string `json:"userName"`
	AccessKeyID string `json:"accessKeyId,omitempty"` // the key to replace; default: the only Active one
	SecretID    string `json:"secretId,omitempty"`    // as create takes it
	Overwrite   bool   `json:"overwrite,omitempty"`
	QuietHours  *int   `json:"quietHours,omitempty"`  // hours, 24 at least: the longest gap between two uses must fit, and maxWaitDays hold it
	PollHours   *int   `json:"pollHours,omitempty"`   // hours, not more than maxWaitDays
	MaxWaitDays *int   `json:"maxWaitDays,omitempty"` // days; together with soakDays 340 at most
	SoakDays    *int   `json:"soakDays,omitempty"`    // days

	Execution *ThisExecution `json:"execution,omitempty"` // the rotation's own; without it every unfinished one of the user goes first
}

const (
	minQuietHours = 24  // what rotates by itself must see at least a whole day
	maxPolls      = 240 // keeps an execution's history below its 25,000 events whatever each poll answers, and however often it is repeated
	maxDays       = 340 // an execution lives for a year, and notices may take days
)

// Validate refuses a malformed input with InvalidInput.
func (in PlanInput) Validate() error {
	if err := CheckUserName(in.UserName); err != nil {
		return err
	}
	if in.AccessKeyID != "" {
		if err := CheckAccessKeyID("accessKeyId", in.AccessKeyID); err != nil {
			return err
		}
	}
	if err := in.Execution.check(); err != nil {
		return err
	}
	return in.Execution.checkName("", in.AccessKeyID)
}

// Run plans the rotation. It refuses, in this order: an unknown user (NoSuchEntity), a
// protected one (Protected), one with a rotation or retirement that began earlier
// (InProgress), then what cannot be told (AmbiguousKeys) and what create refuses.
func (o Plan) Run(ctx context.Context, in PlanInput) (Rotation, error) {
	r := Rotation{UserName: in.UserName, Overwrite: in.Overwrite}
	if err := o.waits(&r, in); err != nil {
		return r, err
	}
	if err := o.Secrets.checkInput(in.SecretID); err != nil {
		return r, err
	}
	user, s, err := readSituation(ctx, o.IAM, o.SecretsManager, o.Secrets, CreateInput{UserName: in.UserName, SecretID: in.SecretID, Overwrite: in.Overwrite}, o.Now)
	if user.Protected() {
		return r, Refuse(Protected, "User %s has the tag %s, so its keys are not changed. Take the tag off, or leave its keys to a person.", user.UserName, TagProtect)
	}
	if err != nil {
		return r, err
	}
	if err := giveWay(ctx, o.StepFunctions, s.userName, s.keys, RotationWorkflow, in.Execution, ""); err != nil {
		return r, err
	}
	r.UserName, r.SecretID, r.SecretARN = s.userName, Optional(s.secretID), Optional(s.secret.ARN)
	if owner, ok := user.Tag(o.OwnerTag); ok {
		r.Owner = Optional(owner)
	}
	var old AccessKey // the key named, else the oldest Active one, if there is one
	if in.AccessKeyID != "" {
		if old, err = findOwn(s.keys, s.userName, in.AccessKeyID); err != nil {
			return r, err
		}
	} else if active := activeKeys(s.keys); len(active) > 0 {
		old = active[0]
	}
	s.replaces = old.AccessKeyID
	start, newKey, err := o.start(s, old, in.AccessKeyID != "")
	if err != nil {
		return r, err
	}
	if err := in.Execution.checkName("", old.AccessKeyID); err != nil {
		return r, err
	}
	used, err := o.IAM.GetAccessKeyLastUsed(ctx, old.AccessKeyID)
	if err != nil {
		return r, err
	}
	if used.ServiceName == "ses" { // an SMTP password is derived from the key
		r.ServiceName = &used.ServiceName
	}
	r.AccessKeyID, r.NewAccessKeyID, r.Start = &old.AccessKeyID, Optional(newKey), &start
	return r, nil
}

func activeKeys(keys []AccessKey) []AccessKey {
	return slices.DeleteFunc(slices.Clone(keys), func(k AccessKey) bool { return k.Status != Active })
}

// start says where the rotation of the old key starts, by create's decision, and
// which key replaces it if that one is delivered already.
func (o Plan) start(s situation, old AccessKey, named bool) (start Start, newKey string, err error) {
	d, active := decide(s), activeKeys(s.keys)
	full := CodeOf(d.err) == LimitExceeded
	switch {
	case d.verdict == reuse && (old.Status == Active && len(active) == 2 || old.Status != Active && len(active) == 1):
		return StartDeactivate, d.key.AccessKeyID, nil
	case d.verdict == reuse:
		return "", "", Refuse(AmbiguousKeys, "User %s has more Active access keys than the one to rotate and the one that replaces it: %s. Deactivate those that nobody uses.", s.userName, describe(s.keys))
	case full && old.Status != Active && len(active) == 1 && s.secret.delivers(s.userName, active[0].AccessKeyID):
		return StartDeactivate, active[0].AccessKeyID, nil // the Inactive key is the younger one
	case d.verdict == refused && (named || !full || len(active) == 1):
		return "", "", d.err
	case len(active) == 0 && !named:
		return "", "", Refuse(AmbiguousKeys, "User %s has no Active access key to rotate. Its keys: %s.", s.userName, describe(s.keys))
	case old.Status != Active, d.verdict == refused:
		return "", "", Refuse(AmbiguousKeys, "Which key of user %s to rotate cannot be told, since secret %s delivers none of them as the newer one: %s. Deactivate and delete the one that nobody uses.",
			s.userName, s.secretID, describe(s.keys))
	}
	return StartCreate, "", nil
}

// Check holds the defaults to the bounds of an input's waits, so that a stack
// whose parameters contradict each other says so before it plans anything.
func (o Plan) Check() error { return o.waits(&Rotation{}, PlanInput{}) }

// waits resolves the numbers and holds them to their bounds.
func (o Plan) waits(r *Rotation, in PlanInput) (err error) {
	within := func(field string, asked *int, otherwise, least, most int, unit string) int {
		if asked == nil {
			asked = &otherwise
		}
		if err == nil && (*asked < least || *asked > most) {
			err = Refuse(InvalidInput, "%s must be %d to %d %s; got %d.", field, least, most, unit, *asked)
		}
		return *asked
	}
	r.QuietHours = within("quietHours", in.QuietHours, o.QuietHours, minQuietHours, maxHours, "hours")
	wait := within("maxWaitDays", in.MaxWaitDays, o.MaxWaitDays, 1, maxDays, "days")
	soak := within("soakDays", in.SoakDays, o.SoakDays, 1, maxDays, "days")
	poll := within("pollHours", in.PollHours, o.PollHours, 1, maxHours, "hours")
	if err != nil {
		return err
	}
	r.Polls = (wait*24 + poll - 1) / poll
	r.RemindAtPoll = (r.Polls + 1) / 2
	r.PollSeconds, r.SoakDays = poll*3600, soak
	switch {
	case poll > wait*24:
		return Refuse(InvalidInput, "pollHours must not be longer than maxWaitDays; got %d hours and %d days.", poll, wait)
	case r.Polls*poll+soak*24 > maxDays*24:
		return Refuse(InvalidInput, "maxWaitDays, in whole pollHours, and soakDays must be %d days at most together; got %d days in %d polls of %d hours, and %d days.", maxDays, wait, r.Polls, poll, soak)
	case r.Polls > maxPolls:
		return Refuse(InvalidInput, "pollHours must be longer: %d days of waiting at %d hours are %d polls, and a workflow holds %d.", wait, poll, r.Polls, maxPolls)
	case time.Duration(r.QuietHours)*time.Hour+LastUsedLag > DayCount(wait):
		return Refuse(InvalidInput, "quietHours and the %d h that IAM may take to show a use must fit in maxWaitDays, or no key is ever switched off; got %d hours and %d days.", LastUsedLag/time.Hour, r.QuietHours, wait)
	}
	return nil
}
