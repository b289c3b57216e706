package iamkeys

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
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
// It reads, decides ([decide], a pure function) and acts, with one undo. The
// mark that it leaves on the secret before it makes a key, the intent, is what a
// later create settles a dead one by.
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
		return checkAccessKeyID("replaces", in.Replaces)
	}
	return nil
}

// The times that bound one create. Whatever is under way, undoing it ends before
// CreateTimeout: a key is only begun within beginWithin, which leaves time for the
// list that a lost answer asks for, and work ends after workWithin.
const (
	settleWithin  = 45 * time.Second // for taking over from dead creates, before a key of our own is begun
	sendWithin    = 10 * time.Second // from the intent's time until CreateAccessKey is sent
	attemptWithin = 8 * time.Second  // for the one attempt at CreateAccessKey, with sendWithin inside the window, and for an attempt of the probe
	showWithin    = 30 * time.Second // for a key to show in the list whose creation got no answer
	verifyWithin  = 60 * time.Second // for IAM's propagation delay
	listsWithin   = 10 * time.Second // for the list to show every key made by now
	undoWithin    = 30 * time.Second // for deleting a key and seeing it gone
	lagWithin     = 20 * time.Second // for a key that was just made to be known to DeleteAccessKey

	beginWithin = settleWithin + 2*sendWithin                  // from the start until CreateAccessKey is sent
	workWithin  = CreateTimeout - undoWithin - 2*attemptWithin // from the start; the rest is for undoing, and to spare
)

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
		switch d.verdict {
		case refused:
			return CreateOutput{}, d.err
		case reuse:
			o.clearAll(ctx, s)
			return CreateOutput{
				UserName: s.userName, AccessKeyID: d.key.AccessKeyID, CreateDate: *Instant(d.key.CreateDate),
				SecretARN: s.secret.ARN, SecretVersionID: s.secret.current(),
			}, nil
		case takeOver:
			if err := o.inTime(start, s); err != nil {
				return CreateOutput{}, err
			}
			if err := o.remove(ctx, s.userName, d.key.AccessKeyID); err != nil {
				return CreateOutput{}, Failed(OrphanedKey, err, "A dead create left access key %s of user %s behind, and it could not be deleted. Try again; the key is of no use to anybody.", d.key.AccessKeyID, s.userName)
			}
			o.Log.WarnContext(ctx, "deleted the access key of a create that died", "userName", s.userName, "accessKeyId", d.key.AccessKeyID)
			o.clear(ctx, s.secret.ARN, d.intent)
		case makeKey:
			if err := o.inTime(start, s); err != nil {
				return CreateOutput{}, err
			}
			return o.act(ctx, start, user, s, in)
		}
	}
}

// readSituation reads what create decides on: the user and its tags, the keys,
// the secret's versions, and last use where the decision asks for it.
func readSituation(ctx context.Context, iam PlanIAM, secrets DescribeSecret, names SecretNames, in CreateInput, now func() time.Time) (User, situation, error) {
	user, err := iam.GetUser(ctx, in.UserName)
	if err != nil {
		return user, situation{}, err
	}
	s := situation{userName: user.UserName, replaces: in.Replaces, overwrite: in.Overwrite, lastUsed: map[string]LastUsed{}}
	if s.secretID, err = names.Of(user, in.SecretID); err != nil {
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
	s.now = now()
	for _, in := range s.secret.intents() {
		for _, k := range s.suspects(in) {
			s.lastUsed[k.AccessKeyID], err = iam.GetAccessKeyLastUsed(ctx, k.AccessKeyID)
			if CodeOf(err) == NoSuchEntity {
				return user, s, Refuse(InProgress, "Access key %s of user %s was deleted meanwhile; another create may be clearing up. Try again.", k.AccessKeyID, s.userName)
			}
			if err != nil {
				return user, s, err
			}
		}
	}
	return user, s, nil
}

// unavailable names a failure of Secrets Manager, except those that say for
// themselves what to do.
func unavailable(err error, secretID string) error {
	switch CodeOf(err) {
	case AccessDenied, Throttled, InvalidInput, SecretUnavailable:
		return err
	}
	return Failed(SecretUnavailable, err, "Secret %s cannot be reached or written, so no key was made. Look at the secret and its KMS key, then try again.", secretID)
}

// inTime refuses to begin what may not end before the function's timeout.
func (o Create) inTime(start time.Time, s situation) error {
	if o.Now().Sub(start) > settleWithin {
		return Refuse(InProgress, "Clearing up after dead creates for user %s took too long to make a key as well. Try again.", s.userName)
	}
	return nil
}

// act makes and delivers the key.
func (o Create) act(ctx context.Context, start time.Time, user User, s situation, in CreateInput) (CreateOutput, error) {
	out := CreateOutput{UserName: s.userName}
	// 1. Leave the intent. That proves write permission and KMS key before any key exists.
	o.clearAll(ctx, s)
	m, err := o.mark(ctx, s)
	if err != nil {
		return out, err
	}
	if err := o.alone(ctx, start, s, &m); err != nil {
		o.clear(ctx, m.secret, m.intent)
		return out, err
	}

	// 2. Make the key, in one attempt.
	sent := o.Now()
	attempt, cancel := context.WithTimeout(ctx, attemptWithin)
	key, err := o.IAM.CreateAccessKey(attempt, s.userName)
	cancel()
	if err != nil && outcomeUnknown(err) {
		return out, o.lostAnswer(ctx, s, m, sent, err)
	}
	if err != nil {
		o.clear(ctx, m.secret, m.intent)
		return out, err
	}
	o.Log.InfoContext(ctx, "created access key", "userName", s.userName, "accessKeyId", key.AccessKeyID)

	// 3. Prove it, and let it spread.
	verify := in.Verify == nil || *in.Verify
	if verify {
		err = o.probe(ctx, user, key)
	}
	if err == nil {
		err = o.Sleep(ctx, o.Propagation)
	}

	// 4. Deliver it, unless the secret has changed hands meanwhile.
	version := SecretVersion{ID: VersionID(s.userName, key.AccessKeyID), Credentials: &key}
	if err == nil {
		err = o.unchanged(ctx, m)
	}
	if err == nil {
		var unknown bool
		if unknown, err = o.put(ctx, start, m.secret, version); unknown {
			return out, Failed(OrphanedKey, err, "Whether secret %s holds the new access key %s of user %s is unknown, so the key was left Active. Run create again in %s: it settles this.",
				s.secretID, key.AccessKeyID, s.userName, CreateTimeout+liveMargin)
		}
	}
	if err != nil {
		return out, o.undo(ctx, s, m, key.AccessKeyID, err)
	}
	o.Log.InfoContext(ctx, "delivered access key", "userName", s.userName, "accessKeyId", key.AccessKeyID, "secretArn", m.secret, "secretVersionId", version.ID)

	// 5. Take the intent off again.
	o.clear(ctx, m.secret, m.intent)
	out.AccessKeyID, out.CreateDate, out.SecretARN, out.SecretVersionID = key.AccessKeyID, *Instant(key.CreateDate), m.secret, version.ID
	out.Created, out.Verified = true, verify
	return out, nil
}

// A mark is an intent on a secret, and what else may be its current version
// while the secret is as it was decided on.
type mark struct {
	intent  intent
	secret  string // its ARN, once known
	decided string // the current version then
	made    string // a version that CreateSecret made by itself
}

func (m mark) expects(current string) bool {
	if nothingDelivered(m.decided) {
		return nothingDelivered(current) || current == m.made
	}
	return current == m.decided
}

// mark creates the secret if need be, and puts the intent.
func (o Create) mark(ctx context.Context, s situation) (mark, error) {
	m := mark{secret: s.secret.ARN, decided: s.secret.current()}
	if m.secret == "" {
		arn, made, err := o.SecretsManager.CreateSecret(ctx, s.secretID)
		if err != nil {
			return m, unavailable(err, s.secretID)
		}
		m.secret, m.made = arn, made
		if arn == "" { // it exists by now
			m.secret = s.secretID
		}
	}
	for end := o.Now().Add(sendWithin); ; {
		nonce := make([]byte, 3)
		_, _ = rand.Read(nonce) // never fails
		m.intent = newIntent(s.userName, o.Now(), hex.EncodeToString(nonce), s.keys)
		err := o.SecretsManager.PutSecretValue(ctx, m.secret, SecretVersion{ID: m.intent.versionID(), Stages: []string{m.intent.label()}})
		if err == nil {
			return m, nil
		}
		if outcomeUnknown(err) {
			o.clear(ctx, m.secret, m.intent)
		}
		passes := outcomeUnknown(err) || CodeOf(err) == Throttled ||
			s.secret.ARN == "" && CodeOf(err) == NoSuchEntity // a new secret may not be known everywhere yet
		if !passes || !o.Now().Before(end) || o.Sleep(ctx, 2*time.Second) != nil {
			return m, unavailable(err, s.secretID)
		}
	}
}

// alone waits until the intent shows and no other create can be at work. Of two
// that see each other the older goes on, once the younger has given way: that
// one may have looked too early to see the older and be at work.
func (o Create) alone(ctx context.Context, start time.Time, s situation, m *mark) error {
	for {
		secret, err := o.SecretsManager.DescribeSecret(ctx, m.secret)
		if err != nil && CodeOf(err) != NoSuchEntity { // a new secret may not show yet
			return unavailable(err, s.secretID)
		}
		now := o.Now()
		inTime := now.Sub(m.intent.time) <= sendWithin && now.Sub(start) <= beginWithin
		if err == nil {
			switch m.secret = secret.ARN; m.look(now, secret) {
			case sole:
				if inTime {
					return nil
				}
			case lost:
				return Refuse(InProgress, "Another create for user %s is at work, or secret %s was changed meanwhile. Try again.", s.userName, s.secretID)
			}
		}
		if !inTime {
			return Refuse(InProgress, "Secret %s did not settle in time to make a key for user %s safely. Try again.", s.secretID, s.userName)
		}
		if err := o.Sleep(ctx, time.Second); err != nil {
			return Failed(InProgress, err, "Time ran out before a key for user %s was made. Try again.", s.userName)
		}
	}
}

// lostAnswer settles a CreateAccessKey, sent at that time, whose outcome is
// unknown. A key that was made is of no use, its secret being lost: wait for it to
// show and remove it. Somebody else may have made one meanwhile and ours not show
// yet, so the first one to show is not it before all had time to.
func (o Create) lostAnswer(ctx context.Context, s situation, m mark, sent time.Time, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), showWithin+undoWithin)
	defer cancel()
	for start := o.Now(); ; {
		var made []AccessKey
		var used LastUsed
		var unread error
		if keys, err := o.IAM.ListAccessKeys(ctx, s.userName); err == nil {
			for _, k := range keys {
				_, before := find(s.keys, k.AccessKeyID)
				earlier := k.CreateDate.Before(sent.Add(-clockSkew).Truncate(time.Second)) // then it is somebody else's
				if !before && !earlier && m.intent.covers(k.CreateDate) {
					made = append(made, k)
				}
			}
		}
		if len(made) == 1 {
			used, unread = o.IAM.GetAccessKeyLastUsed(ctx, made[0].AccessKeyID)
		}
		waited := o.Now().Sub(start)
		switch late, complete := waited >= showWithin, waited >= listsWithin; {
		case len(made) == 1 && unread == nil && unused(made[0], used):
			if complete {
				return o.undo(ctx, s, m, made[0].AccessKeyID, cause)
			}
		case len(made) == 1 && (unread == nil || late), len(made) > 1:
			return Failed(OrphanedKey, errors.Join(cause, unread), "The answer of CreateAccessKey for user %s was lost, and whether it made one of these keys cannot be told: %s. Deactivate and delete what nobody uses, then try again.", s.userName, describe(made))
		case late:
			return Failed(DeliveryFailed, cause, "The answer of CreateAccessKey for user %s was lost and no new key has shown up since. Run create again in %s: it removes the key if there is one.", s.userName, CreateTimeout+liveMargin)
		}
		if err := o.Sleep(ctx, 2*time.Second); err != nil {
			return Failed(DeliveryFailed, err, "The answer of CreateAccessKey for user %s was lost. Run create again in %s: it removes the key if there is one.", s.userName, CreateTimeout+liveMargin)
		}
	}
}

// probe polls until STS knows the key as the user's own.
func (o Create) probe(ctx context.Context, user User, key Credentials) error {
	for end := o.Now().Add(verifyWithin); ; {
		attempt, cancel := context.WithTimeout(ctx, attemptWithin)
		arn, err := o.STS.GetCallerIdentity(attempt, key)
		cancel()
		if err == nil && arn != user.ARN {
			return Refuse(Internal, "STS knows the new key as %s, not as %s.", arn, user.ARN)
		}
		if err == nil {
			return nil
		}
		if !o.Now().Before(end) {
			return Failed(Internal, err, "STS did not accept the new key within %s.", verifyWithin)
		}
		if err := o.Sleep(ctx, 2*time.Second); err != nil {
			return err
		}
	}
}

// unchanged reports, as an error, that the secret is not as it was decided on any more.
func (o Create) unchanged(ctx context.Context, m mark) error {
	for end := o.Now().Add(sendWithin); ; {
		secret, err := o.SecretsManager.DescribeSecret(ctx, m.secret)
		if err == nil {
			if secret.Deleted || !m.expects(secret.current()) || !m.shows(secret) {
				return Refuse(InProgress, "Secret %s was changed while the key was made.", m.secret)
			}
			return nil
		}
		if !o.Now().Before(end) {
			return err
		}
		if err := o.Sleep(ctx, 2*time.Second); err != nil {
			return err
		}
	}
}

// put makes the version current. While the outcome is unknown it puts the same
// version again, which its ID makes safe. unknown: it may be current, and only
// a later run can tell.
func (o Create) put(ctx context.Context, start time.Time, secretID string, version SecretVersion) (unknown bool, err error) {
	for end := start.Add(workWithin); ; {
		err := o.SecretsManager.PutSecretValue(ctx, secretID, version)
		if err == nil {
			return false, nil
		}
		unknown = unknown || outcomeUnknown(err)
		if !unknown && CodeOf(err) != Throttled || !o.Now().Before(end) || o.Sleep(ctx, 2*time.Second) != nil {
			return unknown, err
		}
	}
}

// undo removes the key that could not be delivered for the reason given.
func (o Create) undo(ctx context.Context, s situation, m mark, accessKeyID string, cause error) error {
	if err := o.remove(ctx, s.userName, accessKeyID); err != nil {
		return Failed(OrphanedKey, errors.Join(cause, err), "The new access key %s of user %s could not be delivered to secret %s, and whether it is deleted again is unknown. Delete it by hand, or run create again in %s.",
			accessKeyID, s.userName, s.secretID, CreateTimeout+liveMargin)
	}
	o.Log.WarnContext(ctx, "deleted the new access key again", "userName", s.userName, "accessKeyId", accessKeyID)
	o.clear(ctx, m.secret, m.intent)
	reason := "an unexpected failure; the log has it"
	if e, ok := errors.AsType[*Error](cause); ok {
		reason = e.Message
	}
	return Failed(DeliveryFailed, cause, "The new access key %s of user %s was deleted again, since it could not be delivered to secret %s: %s", accessKeyID, s.userName, s.secretID, reason)
}

// remove deletes the key and sees it gone. A key that was just made may not be
// known yet, so that NoSuchEntity proves nothing for lagWithin. It does not end
// with the caller's context: a key must not be left because time ran out.
func (o Create) remove(ctx context.Context, userName, accessKeyID string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWithin)
	defer cancel()
	start, deleted := o.Now(), false
	for {
		var err error
		if !deleted {
			err = o.IAM.DeleteAccessKey(ctx, userName, accessKeyID)
			deleted = err == nil
		}
		gone := deleted || CodeOf(err) == NoSuchEntity && o.Now().Sub(start) >= lagWithin
		if gone {
			keys, listErr := o.IAM.ListAccessKeys(ctx, userName)
			if _, listed := find(keys, accessKeyID); listErr == nil && !listed {
				return nil
			}
			err = errors.Join(err, listErr)
		}
		if o.Now().Sub(start) >= undoWithin {
			return errors.Join(err, fmt.Errorf("access key %s was not seen gone within %s", accessKeyID, undoWithin))
		}
		if err := o.Sleep(ctx, 2*time.Second); err != nil {
			return err
		}
	}
}

// clear takes an intent off. Failing that does no harm: a dead intent without a
// key of its own decides nothing.
func (o Create) clear(ctx context.Context, secretID string, in intent) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptWithin)
	defer cancel()
	if err := o.SecretsManager.UpdateSecretVersionStage(ctx, secretID, in.label(), in.versionID()); err != nil {
		o.Log.WarnContext(ctx, "left an intent on the secret", "secretId", secretID, "label", in.label(), "error", err.Error())
	}
}

// clearAll takes all dead intents off that have no key any more.
func (o Create) clearAll(ctx context.Context, s situation) {
	for _, in := range s.secret.intents() {
		o.clear(ctx, s.secret.ARN, in)
	}
}
