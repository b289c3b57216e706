package iamkeys_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

// What becomes of a create that died, or lost an answer: nothing is deleted that is not
// on its record, whatever others do meanwhile.

// dies runs a create that dies after the nth call of the action.
func dies(t *testing.T, a *iamkeystest.Account, in iamkeys.CreateInput, action string, nth int) {
	t.Helper()
	p, seen := a.Start(), 0
	p.Fault = func(_ int, called string) iamkeystest.Fault {
		if called == action {
			if seen++; seen == nth {
				return iamkeystest.DiesAfter
			}
		}
		return iamkeystest.None
	}
	if !p.Run(func() { _, _ = creator(p).Run(context.Background(), in) }) {
		t.Fatal("the create did not die")
	}
}

// untouched wants all these keys there, and none of the account's ever deleted.
func untouched(t *testing.T, a *iamkeystest.Account, keys ...string) {
	t.Helper()
	if deleted := a.Deleted(); len(deleted) > 0 {
		t.Errorf("%v was deleted", deleted)
	}
	for _, k := range keys {
		if a.OwnerOf(k) == "" {
			t.Errorf("%s is gone", k)
		}
	}
}

const (
	putting   = "secretsmanager:PutSecretValue"
	labelling = "secretsmanager:UpdateSecretVersionStage" // the first one takes the lock, the second one records the key
)

// A create dies on one secret, another one delivers a key to another secret, and its
// consumer uses it: it is not the dead one's.
func TestCreateDiedOnOneSecret(t *testing.T) {
	for _, used := range []bool{false, true} {
		a, in := newScene(scenes[0])
		dies(t, a, in, labelling, 1)
		elsewhere := in
		elsewhere.SecretID = "iamkeys/ci-deploy/smtp"
		out, err := creator(a.Start()).Run(t.Context(), elsewhere)
		wantCode(t, err, "")
		if used {
			a.Use(out.AccessKeyID, "ses", "eu-west-1")
		}
		a.Advance(intentDies)
		_, err = creator(a.Start()).Run(t.Context(), in)
		wantCode(t, err, iamkeys.OrphanedKey)
		untouched(t, a, out.AccessKeyID)
		obey(t, a, err)
		untouched(t, a, out.AccessKeyID)
		_, err = creator(a.Start()).Run(t.Context(), in)
		wantCode(t, err, "")
	}
}

// A create dies, and a person or another tool makes a key in the same seconds, used or not.
func TestCreateDiedBesideAPerson(t *testing.T) {
	for _, at := range []time.Duration{-5 * time.Second, 0, time.Second, 20 * time.Second, 150 * time.Second} {
		for _, service := range []string{"", "s3", "sts"} {
			a, in := newScene(scenes[0])
			a.LastUsedLag = 4 * time.Hour
			begun := a.Now()
			dies(t, a, in, labelling, 1)
			a.Advance(begun.Add(at).Sub(a.Now()))
			theirs := a.AddKey(user, 0)
			if service != "" {
				a.Use(theirs, service, "")
			}
			a.Advance(intentDies + 5*time.Second)
			_, err := creator(a.Start()).Run(t.Context(), in)
			wantCode(t, err, iamkeys.OrphanedKey)
			untouched(t, a, theirs)
			obey(t, a, err)
			untouched(t, a, theirs)
		}
	}
}

// A create dies once it has delivered its key, or before it could take its lock off, and
// others put values on top, which take the version's own labels: the key stays
// delivered by its record. Whoever takes even that off gets OrphanedKey.
func TestCreateDeliveredThenOverwritten(t *testing.T) {
	for _, forgotten := range []bool{false, true} {
		for values := range 4 {
			a, in := newScene(scenes[0])
			dies(t, a, in, putting, 2)
			delivered := a.Held(secret)
			consumers := a.AddKey(user, 0) // of another tool, made in the same seconds
			for i := range values {
				a.PutSecret(secret, "somebody-elses-version-of-this-secret-"+strings.Repeat("i", i))
			}
			if forgotten {
				for _, label := range a.Labels(secret) {
					if strings.HasPrefix(label, "iamkeys-made-") {
						a.TakeLabelOff(secret, label)
					}
				}
			}
			a.Advance(intentDies)
			in.Overwrite = true
			_, err := creator(a.Start()).Run(t.Context(), in)
			want := iamkeys.LimitExceeded
			switch {
			case forgotten:
				want = iamkeys.OrphanedKey
			case values == 0:
				want = ""
			}
			wantCode(t, err, want)
			untouched(t, a, delivered, consumers)
		}
	}
}

// Two creates whose clocks are two minutes apart, either way: one begins just before its
// clock says that the other's lock is dead. As long as the first may be at work, its key
// is not touched.
func TestCreateClocksApart(t *testing.T) {
	for _, ahead := range []time.Duration{-120 * time.Second, 0, 120 * time.Second} {
		for since := time.Duration(0); since <= iamkeys.LockLife+120*time.Second; since += 10 * time.Second {
			a, in := newScene(scenes[0])
			dies(t, a, in, labelling, 2) // or is about to go on, if its timeout has not come
			made := a.Keys(user)[0].AccessKeyID
			a.Advance(since)
			p := a.Start()
			p.Clock = ahead
			_, err := creator(p).Run(t.Context(), in)
			switch atWork := since <= iamkeys.CreateTimeout; {
			case atWork && (iamkeys.CodeOf(err) != iamkeys.InProgress || a.OwnerOf(made) == ""):
				t.Errorf("%s after the first began, by a clock %s ahead: %v, and its key is %q", since, ahead, err, status(a, made))
			case err == nil && a.OwnerOf(made) != "":
				t.Errorf("%s after the first began, by a clock %s ahead: its key is left", since, ahead)
			case err != nil && iamkeys.CodeOf(err) != iamkeys.InProgress:
				t.Errorf("%s after the first began, by a clock %s ahead: %v", since, ahead, err)
			}
		}
	}
}

// The user is renamed, and perhaps made anew, while its key is made, or after a create
// died: the key is neither delivered as the old user's nor said to be removed.
func TestCreateUserRenamed(t *testing.T) {
	for _, anew := range []bool{false, true} {
		for _, denies := range []bool{false, true} {
			rename := func(a *iamkeystest.Account) {
				a.DeniesUnknown = denies
				a.RenameUser(user, "renamed")
				if anew {
					a.AddUser(user)
				}
			}
			a, in := newScene(scenes[0])
			p := a.Start()
			p.Before = func(_ int, action string) {
				if action == "sts:GetCallerIdentity" && a.HasUser(user) && !a.HasUser("renamed") {
					rename(a)
				}
			}
			_, err := creator(p).Run(t.Context(), in)
			made := a.Keys("renamed")[0].AccessKeyID
			if iamkeys.CodeOf(err) != iamkeys.OrphanedKey || !strings.Contains(err.Error(), made) || a.Held(secret) != "" {
				t.Errorf("renamed inside the create, anew %t, denies %t: %v, and the secret holds %q", anew, denies, err, a.Held(secret))
			}
			untouched(t, a, made)

			a, in = newScene(scenes[0])
			dies(t, a, in, labelling, 2)
			rename(a)
			made = a.Keys("renamed")[0].AccessKeyID
			a.Advance(intentDies)
			if !anew {
				continue
			}
			_, err = creator(a.Start()).Run(t.Context(), in)
			if iamkeys.CodeOf(err) != iamkeys.OrphanedKey || !strings.Contains(err.Error(), made) {
				t.Errorf("renamed after the create died: %v", err)
			}
			untouched(t, a, made)
			obey(t, a, err)
			if _, err := creator(a.Start()).Run(t.Context(), in); err != nil {
				t.Errorf("when it is settled: %v", err)
			}
		}
	}
}

// A key that is not on record is not delivered: its making would be nobody's.
func TestCreateRecordFails(t *testing.T) {
	for _, fault := range []iamkeystest.Fault{iamkeystest.Refused, iamkeystest.Throttled, iamkeystest.Unanswered, iamkeystest.Lost} {
		a, in := newScene(scenes[0])
		_, err := watch(a).create(in, func(p *iamkeystest.Process) {
			p.Fault = func(_ int, action string) iamkeystest.Fault {
				if action == labelling && p.Count("iam:CreateAccessKey") == 1 && p.Count("iam:DeleteAccessKey") == 0 {
					return fault
				}
				return iamkeystest.None
			}
		})
		wantCode(t, err, iamkeys.DeliveryFailed)
		if keys, labels := a.Keys(user), a.Labels(secret); len(keys) > 0 || !slices.Equal(labels, []string{"iamkeys-intent"}) {
			t.Errorf("%s: %v, and there are the keys %v and the labels %v", fault, err, keys, labels)
		}
	}
}

// Somebody takes the lock off, or gives it to another intent, while the key is made: a
// second create may be at work, so the first one gives way.
func TestCreateLosesItsLock(t *testing.T) {
	for _, given := range []bool{false, true} {
		for _, before := range []string{"sts:GetCallerIdentity", "secretsmanager:DescribeSecret"} {
			a, in := newScene(scenes[0])
			_, err := watch(a).create(in, func(p *iamkeystest.Process) {
				p.Before = func(_ int, action string) {
					if action != before || len(a.Keys(user)) == 0 || !slices.Contains(a.Labels(secret), "iamkeys-lock") {
						return
					}
					a.TakeLabelOff(secret, "iamkeys-lock")
					if given {
						p.Before = nil
						dies(t, a, iamkeys.CreateInput{UserName: user, Overwrite: true}, labelling, 1)
					}
				}
			})
			wantCode(t, err, iamkeys.InProgress)
			if keys := a.Keys(user); len(keys) > 0 {
				t.Errorf("given away %t before %s: %v, and there are %v", given, before, err, keys)
			}
			if locked := slices.Contains(a.Labels(secret), "iamkeys-lock"); locked != given {
				t.Errorf("given away %t before %s: the lock stands: %t", given, before, locked)
			}
		}
	}
}

// CreateAccessKey is not sent later than 20 s after the intent, whichever call takes long.
func TestCreateNotSentLate(t *testing.T) {
	for _, slow := range []string{putting, labelling} {
		for _, takes := range []time.Duration{19 * time.Second, 21 * time.Second} {
			a, in := newScene(scenes[0])
			p := a.Start()
			p.After = func(action string, _ error) {
				if action == slow && p.Count(slow) == 1 {
					a.Advance(takes)
				}
			}
			_, err := creator(p).Run(t.Context(), in)
			late := takes > 20*time.Second
			if made := p.Count("iam:CreateAccessKey") > 0; made == late || late != (iamkeys.CodeOf(err) == iamkeys.InProgress) || slices.Contains(a.Labels(secret), "iamkeys-lock") {
				t.Errorf("%s takes %s: made a key: %t, %v, labels %v", slow, takes, made, err, a.Labels(secret))
			}
		}
	}
}

// Nothing is begun that may not end before the function's timeout.
func TestCreateBeginsLate(t *testing.T) {
	for _, takes := range []time.Duration{44 * time.Second, 46 * time.Second} {
		a, in := newScene(scenes[0])
		p := a.Start()
		p.After = func(action string, _ error) {
			if action == "iam:GetUser" {
				a.Advance(takes)
			}
		}
		_, err := creator(p).Run(t.Context(), in)
		if begun, late := p.Count(putting) > 0, takes > 45*time.Second; begun == late || late != (iamkeys.CodeOf(err) == iamkeys.InProgress) {
			t.Errorf("reading takes %s: begun %t, %v", takes, begun, err)
		}
	}
}

// The lock is taken off again whatever refused the key, and also where only its taking
// may have had an effect.
func TestCreateLeavesNoLock(t *testing.T) {
	for _, c := range []struct {
		action string
		faults []iamkeystest.Fault // of its calls, in order; the last one goes on
		want   iamkeys.Code
	}{
		{"iam:CreateAccessKey", []iamkeystest.Fault{iamkeystest.Refused}, iamkeys.AccessDenied},
		{"iam:CreateAccessKey", []iamkeystest.Fault{iamkeystest.Throttled}, iamkeys.Throttled},
		{labelling, []iamkeystest.Fault{iamkeystest.Lost, iamkeystest.Throttled, iamkeystest.None}, iamkeys.Throttled},
		{labelling, []iamkeystest.Fault{iamkeystest.Lost, iamkeystest.Refused, iamkeystest.None}, iamkeys.AccessDenied},
		{labelling, []iamkeystest.Fault{iamkeystest.Refused}, iamkeys.AccessDenied},
		{labelling, []iamkeystest.Fault{iamkeystest.Throttled}, iamkeys.Throttled},
	} {
		a, in := newScene(scenes[0])
		_, err := watch(a).create(in, func(p *iamkeystest.Process) {
			p.Fault = func(_ int, action string) iamkeystest.Fault {
				if action != c.action {
					return iamkeystest.None
				}
				return c.faults[min(p.Count(action), len(c.faults))-1]
			}
		})
		wantCode(t, err, c.want)
		if labels := a.Labels(secret); slices.Contains(labels, "iamkeys-lock") || len(a.Keys(user)) > 0 {
			t.Errorf("%s met %v: %v, labels %v, keys %v", c.action, c.faults, err, labels, a.Keys(user))
		}
	}

	// A lock whose taking got no answer, and which is seen to stand already.
	a, in := newScene(scenes[0])
	a.RefusesStanding = true
	_, err := watch(a).create(in, func(p *iamkeystest.Process) {
		p.Fault = func(_ int, action string) iamkeystest.Fault {
			if action == labelling && p.Count(labelling) == 1 {
				return iamkeystest.Lost
			}
			return iamkeystest.None
		}
	})
	wantCode(t, err, iamkeys.InProgress)
	if labels := a.Labels(secret); slices.Contains(labels, "iamkeys-lock") {
		t.Errorf("the labels are %v", labels)
	}
}

// What is deleted again is seen gone, also from the list, before anybody is told so.
func TestCreateSeesItGone(t *testing.T) {
	for lag, want := range map[time.Duration]iamkeys.Code{15 * time.Second: iamkeys.DeliveryFailed, time.Hour: iamkeys.OrphanedKey} {
		a, in := newScene(scenes[0])
		a.OwnLate, a.Propagation = true, 0
		_, err := watch(a).create(in, func(p *iamkeystest.Process) {
			p.Fault = func(_ int, action string) iamkeystest.Fault {
				if action == putting && p.Count("iam:CreateAccessKey") > 0 {
					a.Advance(lag) // so that the list shows the key
					a.ListLag = lag
					return iamkeystest.Refused
				}
				return iamkeystest.None
			}
		})
		wantCode(t, err, want)
	}
}

// Records of keys that are gone do not pile up; those of keys that are there, or another
// user's, stay.
func TestCreateTidies(t *testing.T) {
	a, _ := newScene(scenes[0])
	a.AddUser("bob")
	version := iamkeys.VersionID("bob", "AKIANOBODYHASTHISKEY")
	a.PutSecret(secret, version)
	a.PutLabel(secret, "iamkeys-made-0a1b2c-AKIANOBODYHASTHISKEY", version)
	in := iamkeys.CreateInput{UserName: user}
	a.PutSecret(secret, "somebody-elses-version-of-this-secret")
	in.Overwrite = true
	for range 30 {
		out, err := creator(a.Start()).Run(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if in.Replaces != "" {
			a.DeleteKey(user, in.Replaces)
		}
		in.Replaces = out.AccessKeyID
		a.Advance(time.Hour)
	}
	labels := a.Labels(secret)
	slices.Sort(labels)
	if len(labels) != 4 || labels[0] != "iamkeys-intent" || !slices.Contains(labels, "iamkeys-made-0a1b2c-AKIANOBODYHASTHISKEY") {
		t.Errorf("the labels are %v, want the intent's, the records of the last two keys, and bob's", labels)
	}
}

// So does the record that a dead create has left on its intent, once its key is gone;
// another user's stays.
func TestCreateTidiesIntents(t *testing.T) {
	for _, whose := range []string{user, "bob"} {
		a, in := newScene(scenes[0])
		a.AddUser("bob")
		dead := in
		dead.UserName, dead.SecretID, in.SecretID = whose, "iamkeys/shared/x", "iamkeys/shared/x"
		dies(t, a, dead, labelling, 2)
		record := ""
		for _, label := range a.Labels(in.SecretID) {
			if strings.HasPrefix(label, "iamkeys-made-") {
				record = label
			}
		}
		a.DeleteKey(whose, a.Keys(whose)[0].AccessKeyID)
		a.TakeLabelOff(in.SecretID, "iamkeys-lock") // as OrphanedKey says, or its own create would take its place
		a.Advance(intentDies)
		if _, err := creator(a.Start()).Run(t.Context(), in); err != nil || record == "" {
			t.Fatalf("%v, the record was %q", err, record)
		}
		if left := slices.Contains(a.Labels(in.SecretID), record); left != (whose == "bob") {
			t.Errorf("of %s: the record %s is left: %t", whose, record, left)
		}
	}
}

// laggingSecrets does not know a secret that was just made.
type laggingSecrets struct {
	iamkeys.CreateSecretsManager
	unknown int // for that many calls
}

func (s *laggingSecrets) PutSecretValue(ctx context.Context, secretID string, v iamkeys.SecretVersion) error {
	if s.unknown--; s.unknown >= 0 {
		return iamkeys.Refuse(iamkeys.NoSuchEntity, "Secret %s does not exist.", secretID)
	}
	return s.CreateSecretsManager.PutSecretValue(ctx, secretID, v)
}

// A secret that was just made may not be known everywhere yet.
func TestCreateNewSecretUnknown(t *testing.T) {
	for unknown, want := range map[int]iamkeys.Code{3: "", 30: iamkeys.SecretUnavailable} {
		a, in := newScene(scenes[0])
		p := a.Start()
		o := creator(p)
		o.SecretsManager = &laggingSecrets{p, unknown}
		_, err := o.Run(t.Context(), in)
		wantCode(t, err, want)
	}
}

// A secret that somebody else makes at the same time, or whose making got no answer, is
// named by its ARN all the same.
func TestCreateNewSecretExists(t *testing.T) {
	a, in := newScene(scenes[0])
	out, err := watch(a).create(in, func(p *iamkeystest.Process) {
		p.Before = func(_ int, action string) {
			if action == "secretsmanager:CreateSecret" {
				a.PutSecret(secret, "somebody-elses-version-of-this-secret")
			}
		}
	})
	wantCode(t, err, iamkeys.InProgress) // whose value it holds
	in.Overwrite = true
	if out, err = watch(a).create(in, nil); err != nil || !strings.HasPrefix(out.SecretARN, "arn:") {
		t.Errorf("got %+v, %v", out, err)
	}

	a, in = newScene(scenes[0])
	out, err = watch(a).create(in, func(p *iamkeystest.Process) {
		p.Before = func(_ int, action string) {
			if action == "secretsmanager:CreateSecret" {
				_, _, _ = a.Start().CreateSecret(context.Background(), secret)
			}
		}
	})
	if err != nil || !strings.HasPrefix(out.SecretARN, "arn:") || a.Held(secret) != out.AccessKeyID {
		t.Errorf("got %+v, %v", out, err)
	}
}

// A failed delivery says why, to whoever may not read the log.
func TestCreateSaysWhy(t *testing.T) {
	a, in := newScene(scenes[0])
	_, err := watch(a).create(in, func(p *iamkeystest.Process) {
		p.Fault = func(_ int, action string) iamkeystest.Fault {
			if action == putting && p.Count("iam:CreateAccessKey") > 0 {
				return iamkeystest.Refused
			}
			return iamkeystest.None
		}
	})
	wantCode(t, err, iamkeys.DeliveryFailed)
	e, _ := errors.AsType[*iamkeys.Error](err)
	for _, says := range []string{a.Made()[0].AccessKeyID, user, secret, "PutSecretValue is not permitted"} {
		if !strings.Contains(e.Message, says) {
			t.Errorf("%q does not say %q", e.Message, says)
		}
	}
}

// Where IAM does not say whether a key is there that the secret speaks of, nothing is made.
func TestCreateKeyUnread(t *testing.T) {
	for _, fault := range []iamkeystest.Fault{iamkeystest.Throttled, iamkeystest.Unanswered} {
		a, in := newScene(scenes[0])
		out, err := creator(a.Start()).Run(t.Context(), in)
		wantCode(t, err, "")
		a.DeleteKey(user, out.AccessKeyID)
		_, err = watch(a).create(in, func(p *iamkeystest.Process) {
			p.Fault = func(_ int, action string) iamkeystest.Fault {
				if action == "iam:GetAccessKeyLastUsed" {
					return fault
				}
				return iamkeystest.None
			}
		})
		if err == nil || len(a.Keys(user)) > 0 {
			t.Errorf("%s: %v, and there are %v", fault, err, a.Keys(user))
		}
	}
}
