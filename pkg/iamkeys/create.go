package iamkeys

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// CreateIAM is what [Create] asks of IAM.
type CreateIAM interface {
	PlanIAM
	CreateAccessKey
	DeleteAccessKey
}

// CreateSecretsManager is what [Create] asks of Secrets Manager.
type CreateSecretsManager interface {
	DescribeSecret
	CreateSecret
	PutSecretValue
	UpdateSecretVersionStage
}

// Create makes an access key and delivers its secret to Secrets Manager.
//
// It reads, decides ([decide], a pure function) and acts, with one undo. It makes a key
// only while it has the secret's lock, and records on the secret which key it made: by
// lock and record a later create settles a dead one, and nothing else is ever deleted.
type Create struct {
	IAM            CreateIAM
	SecretsManager CreateSecretsManager
	STS            GetCallerIdentity
	Secrets        SecretNames
	Propagation    time.Duration // to wait after STS accepts the key: other services and Regions accept it later
	Now            func() time.Time
	Sleep          func(context.Context, time.Duration) error
	Log            *slog.Logger
}

// CreateInput is what Create takes.
type CreateInput struct {
	UserName  string `json:"userName"`
	SecretID  string `json:"secretId,omitempty"`  // name or ARN under SecretPrefix; default: the tag iamkeys:secret, else SecretPrefix + user name + /access-key
	Replaces  string `json:"replaces,omitempty"`  // ID of the key that the new one is to replace; it stays as it is
	Verify    *bool  `json:"verify,omitempty"`    // prove the key by GetCallerIdentity before it is stored; default true
	Overwrite bool   `json:"overwrite,omitempty"` // allow a secret whose value iamkeys did not write
}

// CreateOutput is what Create returns; never the secret access key. Created is
// false when the secret held an Active key of the user already.
type CreateOutput struct {
	UserName        string    `json:"userName"`
	AccessKeyID     string    `json:"accessKeyId"`
	CreateDate      time.Time `json:"createDate"`
	SecretARN       string    `json:"secretArn"`
	SecretVersionID string    `json:"secretVersionId"`
	Created         bool      `json:"created"`
	Verified        bool      `json:"verified"`
}

// Validate refuses a malformed input with InvalidInput.
func (in CreateInput) Validate() error {
	if err := CheckUserName(in.UserName); err != nil {
		return err
	}
	if in.Replaces != "" {
		return CheckAccessKeyID("replaces", in.Replaces)
	}
	return nil
}

// Run makes the key, or returns the one that the secret holds already.
// It refuses as [decide] says; after that nothing is known to exist unless the
// error is OrphanedKey, which names the key.
func (o Create) Run(ctx context.Context, in CreateInput) (CreateOutput, error) {
	if err := o.Secrets.checkInput(in.SecretID); err != nil {
		return CreateOutput{}, err
	}
	start := o.Now()
	ctx, cancel := context.WithTimeout(ctx, workWithin)
	defer cancel()
	for {
		user, s, err := readSituation(ctx, o.IAM, o.SecretsManager, o.Secrets, in, o.Now)
		if err != nil {
			return CreateOutput{}, err
		}
		d := decide(s)
		if (d.verdict == takeOver || d.verdict == makeKey) && o.Now().Sub(start) > settleWithin {
			return CreateOutput{}, Refuse(InProgress, "Reading, and clearing up after dead creates, took too long to make a key for user %s as well. Try again.", s.userName)
		}
		switch d.verdict {
		case refused:
			return CreateOutput{}, d.err
		case reuse:
			if s.lock == dead {
				o.release(ctx, s.secret.ARN, s.lockOf, "")
			}
			return CreateOutput{
				UserName: s.userName, AccessKeyID: d.key.AccessKeyID, CreateDate: *Instant(d.key.CreateDate),
				SecretARN: s.secret.ARN, SecretVersionID: s.secret.current(),
			}, nil
		case takeOver:
			if err := o.remove(ctx, s.userName, d.key.AccessKeyID); err != nil {
				return CreateOutput{}, Failed(OrphanedKey, err, "A dead create left access key %s of user %s behind, and whether it is deleted now is unknown. Delete nothing; run create again, which settles it.", d.key.AccessKeyID, s.userName)
			}
			o.Log.WarnContext(ctx, "deleted the access key of a create that died", "userName", s.userName, "accessKeyId", d.key.AccessKeyID)
			o.release(ctx, s.secret.ARN, s.lockOf, d.key.AccessKeyID)
		case makeKey:
			return o.act(ctx, start, user, s, in)
		}
	}
}

// readSituation reads what create decides on: the user and its tags, the keys, the
// secret's versions, and where a key is that these name and the list does not.
func readSituation(ctx context.Context, iam PlanIAM, secrets DescribeSecret, names SecretNames, in CreateInput, now func() time.Time) (User, situation, error) {
	user, err := iam.GetUser(ctx, in.UserName)
	if err != nil {
		return user, situation{}, err
	}
	s := situation{userName: user.UserName, replaces: in.Replaces, overwrite: in.Overwrite}
	var unproved bool
	if s.secretID, unproved, err = names.Of(user, in.SecretID); err != nil {
		return user, s, err
	}
	keys, err := iam.ListAccessKeys(ctx, s.userName)
	if err != nil {
		return user, s, err
	}
	s.keys = OldestFirst(keys)
	for _, k := range s.keys {
		if err := k.Known(); err != nil {
			return user, s, err
		}
	}
	if s.secret, err = secrets.DescribeSecret(ctx, s.secretID); err != nil && CodeOf(err) != NoSuchEntity {
		return user, s, unavailable(err, s.secretID)
	}
	if unproved && !s.secret.Deleted && !s.secret.DeliversOne(s.userName, s.keys) {
		return user, s, names.RefuseTag(user, s.secretID)
	}
	s.now = now()
	if err := s.readContent(ctx, iam); err != nil {
		return user, s, err
	}
	return user, s, s.readLock(ctx, iam)
}

// readContent reads what the secret's current version is.
func (s *situation) readContent(ctx context.Context, iam GetAccessKeyLastUsed) (err error) {
	current := s.secret.current()
	user, key, delivered := parseDelivered(current)
	switch {
	case s.secret.Deleted:
		s.holds = deleted
	case s.secret.replica() != "":
		s.holds = mirrored
	case s.secret.ARN == "" && strings.HasPrefix(s.secretID, "arn:"):
		s.holds = notThere
	case nothingDelivered(current):
		s.holds = nothing
	case delivered && user == userHash(s.userName, 16):
		s.holds, s.holdsKey = ours, key
		s.where, err = s.place(ctx, iam, key)
	case delivered:
		s.holds = anothers
	default:
		s.holds = foreign
	}
	return err
}

// readLock reads who has the secret's lock, and what a dead create of this user may
// have made under it.
func (s *situation) readLock(ctx context.Context, iam GetAccessKeyLastUsed) (err error) {
	version := s.secret.labelled(lockStage)
	if version == "" {
		return nil
	}
	var ok bool
	s.lockOf, ok = parseIntent(version)
	switch {
	case ok && s.lockOf.live(s.now):
		s.lock = live
		return nil
	case !ok || !s.lockOf.of(s.userName):
		s.lock = others
		return nil
	}
	s.lock = dead
	var made []string // one, unless somebody has forged a record
	for _, r := range s.secret.records() {
		switch {
		case r.nonce != s.lockOf.nonce:
		case r.delivered():
			return nil // finished
		case r.versionID == version:
			made = append(made, r.accessKeyID)
		}
	}
	s.suspects = suspects(s.lockOf, s.userName, s.keys, s.secret)
	if len(made) != 1 {
		return nil
	}
	s.made = made[0]
	if _, ok := find(s.suspects, s.made); ok {
		s.recorded = suspect
		return nil
	}
	s.recorded, err = s.place(ctx, iam, s.made)
	return err
}

// place tells where that key is. AccessDenied is real IAM's answer, too, to a key that
// does not exist under the function's user path.
func (s *situation) place(ctx context.Context, iam GetAccessKeyLastUsed, accessKeyID string) (place, error) {
	if _, ok := find(s.keys, accessKeyID); ok {
		return listed, nil
	}
	used, err := iam.GetAccessKeyLastUsed(ctx, accessKeyID)
	switch {
	case CodeOf(err) == NoSuchEntity, CodeOf(err) == AccessDenied:
		return absent, nil
	case err == nil && strings.EqualFold(used.UserName, s.userName):
		return known, nil
	}
	return elsewhere, err
}

// unavailable names a failure of Secrets Manager, except those that say for
// themselves what to do.
func unavailable(err error, secretID string) error {
	switch CodeOf(err) {
	case AccessDenied, Throttled, InvalidInput, InProgress, SecretUnavailable:
		return err
	}
	return Failed(SecretUnavailable, err, "Secret %s cannot be reached or written, so no key was made. Look at the secret and its KMS key, then try again.", secretID)
}

// A work is one create that has decided to make a key.
type work struct {
	situation
	arn     string // the secret's; its name, until it is looked at again, when CreateSecret found that it exists by now
	first   string // a version that CreateSecret made by itself
	intent  intent
	overdue time.Time // CreateAccessKey is not sent later
}

// act makes and delivers the key.
func (o Create) act(ctx context.Context, start time.Time, user User, s situation, in CreateInput) (CreateOutput, error) {
	out := CreateOutput{UserName: s.userName}
	// 1. Leave the intent, which proves write permission and KMS key before any key
	// exists, and take the lock.
	w, err := o.begin(ctx, s)
	if err != nil {
		return out, err
	}

	// 2. Make the key, in one attempt, and record it before anything else.
	attempt, cancel := context.WithTimeout(ctx, attemptWithin)
	key, err := o.IAM.CreateAccessKey(attempt, s.userName, w.intent.nonce)
	cancel()
	if err != nil && outcomeUnknown(err) {
		return out, o.lostAnswer(ctx, w, err)
	}
	if err != nil {
		o.release(ctx, w.arn, w.intent, "")
		return out, err
	}
	o.Log.InfoContext(ctx, "created access key", "userName", s.userName, "accessKeyId", key.AccessKeyID)
	made := w.intent.made(key.AccessKeyID)
	err = o.SecretsManager.UpdateSecretVersionStage(ctx, w.arn, made.label(), made.versionID, "")

	// 3. Prove it, and let it spread.
	verify := in.Verify == nil || *in.Verify
	if err == nil && verify {
		err = o.probe(ctx, user, key)
	}
	if err == nil {
		err = o.Sleep(ctx, o.Propagation)
	}

	// 4. Deliver it, and its record with it, unless the secret has changed hands meanwhile.
	version := SecretVersion{ID: VersionID(s.userName, key.AccessKeyID), Stages: []string{currentStage, made.label()}, Credentials: &key}
	if err == nil {
		w.arn, err = o.unchanged(ctx, w)
	}
	if err == nil {
		var unknown bool // the put may have taken effect: only a success, or a later run, can tell
		err = o.repeat(ctx, start.Add(workWithin), func(err error) bool { unknown = unknown || outcomeUnknown(err); return unknown }, func() error {
			return o.SecretsManager.PutSecretValue(ctx, w.arn, version)
		})
		if err != nil && unknown {
			return out, Failed(OrphanedKey, err, "Whether secret %s holds the new access key %s of user %s is unknown, so the key was left Active. Delete nothing; run create again after %s, which settles it.",
				s.secretID, key.AccessKeyID, s.userName, stamp(w.intent.dies()))
		}
	}
	if err != nil {
		return out, o.undo(ctx, w, key.AccessKeyID, err)
	}
	o.Log.InfoContext(ctx, "delivered access key", "userName", s.userName, "accessKeyId", key.AccessKeyID, "secretArn", w.arn, "secretVersionId", version.ID)

	// 5. Take the lock off again.
	o.release(ctx, w.arn, w.intent, "")
	out.AccessKeyID, out.CreateDate, out.SecretARN, out.SecretVersionID = key.AccessKeyID, *Instant(key.CreateDate), w.arn, version.ID
	out.Created, out.Verified = true, verify
	return out, nil
}

// repeat makes the call, and makes it again while its error is one to try again on and
// the end has not come.
func (o Create) repeat(ctx context.Context, end time.Time, again func(error) bool, call func() error) error {
	for {
		err := call()
		if err == nil || !again(err) || !o.Now().Before(end) || o.Sleep(ctx, pollEvery) != nil {
			return err
		}
	}
}

// begin creates the secret if need be, puts the intent and takes the lock.
func (o Create) begin(ctx context.Context, s situation) (work, error) {
	w := work{situation: s, arn: s.secret.ARN}
	isNew := w.arn == ""
	if isNew {
		arn, made, err := o.SecretsManager.CreateSecret(ctx, s.secretID)
		if err != nil {
			return w, unavailable(err, s.secretID)
		}
		w.arn, w.first = cmp.Or(arn, s.secretID), made
	}
	nonce := make([]byte, 3)
	_, _ = rand.Read(nonce) // never fails
	w.intent = newIntent(s.userName, o.Now(), hex.EncodeToString(nonce), s.keys)
	w.overdue = w.intent.time.Add(sendWithin)

	err := o.repeat(ctx, w.overdue, func(err error) bool {
		return outcomeUnknown(err) || isNew && CodeOf(err) == NoSuchEntity // a new secret may not be known everywhere yet
	}, func() error {
		return o.SecretsManager.PutSecretValue(ctx, w.arn, SecretVersion{ID: w.intent.versionID(), Stages: []string{intentStage}})
	})
	if err != nil {
		return w, unavailable(err, s.secretID)
	}

	from := "" // where the lock stands, as far as was read
	if s.lock == dead {
		from = s.lockOf.versionID()
	}
	var unknown bool
	err = o.repeat(ctx, w.overdue, func(err error) bool { unknown = unknown || outcomeUnknown(err); return outcomeUnknown(err) }, func() error {
		return o.SecretsManager.UpdateSecretVersionStage(ctx, w.arn, lockStage, w.intent.versionID(), from)
	})
	if err != nil && unknown { // it may be ours all the same
		o.release(ctx, w.arn, w.intent, "")
	}
	switch {
	case CodeOf(err) == InProgress:
		return w, Failed(InProgress, err, "Another create on secret %s was faster, so no key was made for user %s. Try again.", s.secretID, s.userName)
	case err != nil:
		return w, unavailable(err, s.secretID)
	}
	o.tidy(ctx, w)
	if o.Now().After(w.overdue) || ctx.Err() != nil {
		o.release(ctx, w.arn, w.intent, "")
		return w, Refuse(InProgress, "Secret %s did not answer in time to make a key for user %s safely, so none was made. Try again.", s.secretID, s.userName)
	}
	return w, nil
}

// tidy takes the records of this user's keys off that are gone: a secret holds 20
// labels. What fails is left to the next create.
func (o Create) tidy(ctx context.Context, w work) {
	for _, r := range w.secret.records() {
		if !r.of(w.userName) || o.Now().After(w.overdue) {
			continue
		}
		at, err := w.place(ctx, o.IAM, r.accessKeyID)
		if err == nil && at == absent {
			err = o.SecretsManager.UpdateSecretVersionStage(ctx, w.arn, r.label(), "", r.versionID)
		}
		if err != nil {
			o.Log.WarnContext(ctx, "left the record of a key on the secret", "secretId", w.arn, "label", r.label(), "error", err.Error())
		}
	}
}

// lostAnswer waits, after a CreateAccessKey whose outcome is unknown, for a key to show.
// Whether that is ours nobody can tell but CloudTrail, so it stays, and so does the lock.
func (o Create) lostAnswer(ctx context.Context, w work, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), showWithin)
	defer cancel()
	var found []AccessKey
	_ = o.repeat(ctx, o.Now().Add(showWithin), func(error) bool { return true }, func() error {
		keys, err := o.IAM.ListAccessKeys(ctx, w.userName)
		if found = suspects(w.intent, w.userName, keys, w.secret); err == nil && len(found) == 0 {
			err = cause
		}
		return err
	})
	if len(found) > 0 {
		return orphaned(cause, w.userName, w.secretID, w.arn, w.intent, "one of these or another: "+describe(found))
	}
	return Failed(DeliveryFailed, cause, "The answer of CreateAccessKey for user %s was lost, and no new key has shown up since. Run create again after %s: it tells whether there is one, and what to do then (CloudTrail knows it by iamkeys/%s).", w.userName, stamp(w.intent.dies()), w.intent.nonce)
}

// probe polls until STS knows the key as the user's own.
func (o Create) probe(ctx context.Context, user User, key Credentials) error {
	var arn string
	err := o.repeat(ctx, o.Now().Add(verifyWithin), func(error) bool { return true }, func() (err error) {
		attempt, cancel := context.WithTimeout(ctx, attemptWithin)
		defer cancel()
		arn, err = o.STS.GetCallerIdentity(attempt, key)
		return err
	})
	switch {
	case err != nil:
		return Failed(Internal, err, "STS did not accept the new key within %s.", verifyWithin)
	case arn != user.ARN:
		return Refuse(Internal, "STS knows the new key as %s, not as %s.", arn, user.ARN)
	}
	return nil
}

// unchanged looks at the secret again and gives its ARN. It refuses with InProgress when
// the lock is not ours any more, or the current version not the one decided on.
func (o Create) unchanged(ctx context.Context, w work) (arn string, err error) {
	var now SecretDescription
	err = o.repeat(ctx, o.Now().Add(lookWithin), func(error) bool { return true }, func() (err error) {
		now, err = o.SecretsManager.DescribeSecret(ctx, w.arn)
		return err
	})
	if err != nil {
		return w.arn, err
	}
	decided, current := w.secret.current(), now.current()
	same := current == decided || nothingDelivered(decided) && (nothingDelivered(current) || current == w.first)
	if !same || now.labelled(lockStage) != w.intent.versionID() {
		return now.ARN, Refuse(InProgress, "Secret %s, or its lock, was changed while the key was made. Try again.", w.secretID)
	}
	return now.ARN, nil
}

// undo removes the key that could not be delivered for the reason given.
func (o Create) undo(ctx context.Context, w work, accessKeyID string, cause error) error {
	if err := o.remove(ctx, w.userName, accessKeyID); err != nil {
		return Failed(OrphanedKey, errors.Join(cause, err), "The new access key %s of user %s could not be delivered to secret %s, and whether it is deleted again is unknown. Delete nothing; run create again after %s, which settles it.",
			accessKeyID, w.userName, w.secretID, stamp(w.intent.dies()))
	}
	o.Log.WarnContext(ctx, "deleted the new access key again", "userName", w.userName, "accessKeyId", accessKeyID)
	o.release(ctx, w.arn, w.intent, accessKeyID)
	code := DeliveryFailed
	if CodeOf(cause) == InProgress { // the secret has changed hands
		code = InProgress
	}
	reason := "an unexpected failure; the log has it"
	if e, ok := errors.AsType[*Error](cause); ok {
		reason = e.Message
	}
	return Failed(code, cause, "The new access key %s of user %s was deleted again, since it could not be delivered to secret %s: %s", accessKeyID, w.userName, w.secretID, reason)
}

// remove deletes the key and sees it gone. A key that was just made may not be
// known yet, so that NoSuchEntity proves nothing for lagWithin, and then only if IAM
// does not know the key at all: the user may have been renamed. It does not end
// with the caller's context: a key must not be left because time ran out.
func (o Create) remove(ctx context.Context, userName, accessKeyID string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWithin)
	defer cancel()
	start, deleted := o.Now(), false
	return o.repeat(ctx, start.Add(undoWithin), func(error) bool { return true }, func() error {
		if !deleted {
			err := o.IAM.DeleteAccessKey(ctx, userName, accessKeyID)
			deleted = err == nil
			noSuch := CodeOf(err) == NoSuchEntity || CodeOf(err) == AccessDenied // the latter is real IAM's answer, too, to what does not exist under the user path
			if !deleted && (!noSuch || o.Now().Sub(start) < lagWithin) {
				return err
			}
		}
		keys, err := o.IAM.ListAccessKeys(ctx, userName)
		if err != nil && CodeOf(err) != NoSuchEntity {
			return err
		}
		if _, ok := find(keys, accessKeyID); ok {
			return fmt.Errorf("access key %s is still listed", accessKeyID)
		}
		if deleted {
			return nil
		}
		s := situation{userName: userName, keys: keys}
		at, err := s.place(ctx, o.IAM, accessKeyID)
		if err == nil && at != absent {
			err = fmt.Errorf("access key %s is still known", accessKeyID)
		}
		return err
	})
}

// release takes the lock off the intent, where it still stands, and then the record of
// the key that the intent made, unless accessKeyID is "". Failing that does no harm: a
// dead lock without a suspect decides nothing.
func (o Create) release(ctx context.Context, secretID string, in intent, accessKeyID string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptWithin)
	defer cancel()
	labels := []string{lockStage}
	if accessKeyID != "" {
		labels = append(labels, in.made(accessKeyID).label())
	}
	for _, label := range labels {
		if err := o.SecretsManager.UpdateSecretVersionStage(ctx, secretID, label, "", in.versionID()); err != nil && CodeOf(err) != InProgress {
			o.Log.WarnContext(ctx, "left a label on the secret", "secretId", secretID, "label", label, "error", err.Error())
		}
	}
}
