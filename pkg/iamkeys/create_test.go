package iamkeys_test

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

const (
	user   = "ci-deploy"
	secret = "iamkeys/ci-deploy/access-key"
)

// intentDies is how long after a create its lock is dead for sure.
const intentDies = iamkeys.LockLife + time.Second

// creator gives the create operation of a process.
func creator(p *iamkeystest.Process) iamkeys.Create {
	return iamkeys.Create{
		IAM: p, SecretsManager: p, STS: p, Secrets: iamkeys.SecretNames{Prefix: "iamkeys/"},
		Propagation: 10 * time.Second, Now: p.Now, Sleep: p.Sleep, Log: slog.New(slog.DiscardHandler),
	}
}

// A scene is an account before a create, and the create's input.
type scene struct {
	name    string
	prepare func(*iamkeystest.Account) iamkeys.CreateInput
}

var scenes = []scene{
	{"first key", func(a *iamkeystest.Account) iamkeys.CreateInput {
		return iamkeys.CreateInput{UserName: user}
	}},
	{"replaces a delivered key", func(a *iamkeystest.Account) iamkeys.CreateInput {
		old := a.AddKey(user, 80*24*time.Hour)
		a.Deliver(secret, user, old)
		a.Use(old, "s3", "")
		a.Advance(time.Hour)
		return iamkeys.CreateInput{UserName: user, Replaces: old}
	}},
	{"replaces an undelivered key", func(a *iamkeystest.Account) iamkeys.CreateInput {
		return iamkeys.CreateInput{UserName: user, Replaces: a.AddKey(user, 80*24*time.Hour)}
	}},
	{"overwrites a foreign value", func(a *iamkeystest.Account) iamkeys.CreateInput {
		a.PutSecret(secret, "somebody-elses-version-of-this-secret")
		a.Advance(time.Hour)
		return iamkeys.CreateInput{UserName: user, Overwrite: true}
	}},
	{"lists and secrets lag", func(a *iamkeystest.Account) iamkeys.CreateInput {
		a.ListLag, a.WriteLag, a.SecretLag, a.LastUsedLag, a.Propagation = 4*time.Second, 3*time.Second, 2*time.Second, 4*time.Hour, 12*time.Second
		a.OwnLate = true
		return iamkeys.CreateInput{UserName: user}
	}},
	{"overwrites a foreign value while secrets lag", func(a *iamkeystest.Account) iamkeys.CreateInput {
		a.PutSecret(secret, "somebody-elses-version-of-this-secret")
		a.Advance(time.Hour)
		a.SecretLag = 3 * time.Second
		return iamkeys.CreateInput{UserName: user, Overwrite: true}
	}},
	{"writes lag and nothing is proved", func(a *iamkeystest.Account) iamkeys.CreateInput {
		a.ListLag, a.WriteLag, a.Propagation = 9*time.Second, 9*time.Second, 12*time.Second
		a.OwnLate = true
		return iamkeys.CreateInput{UserName: user, Verify: new(false)}
	}},
}

func newScene(s scene) (*iamkeystest.Account, iamkeys.CreateInput) {
	a := iamkeystest.NewAccount()
	a.AddUser(user)
	in := s.prepare(a)
	return a, in
}

// A witness holds an account to the promises while creates run on it.
type witness struct {
	account *iamkeystest.Account
	before  []iamkeys.AccessKey
	errors  []error
	died    bool
}

func watch(a *iamkeystest.Account) *witness {
	return &witness{account: a, before: a.Keys(user)}
}

// create runs one create in a process of its own.
func (w *witness) create(in iamkeys.CreateInput, arrange func(*iamkeystest.Process)) (out iamkeys.CreateOutput, err error) {
	p := w.account.Start()
	if arrange != nil {
		arrange(p)
	}
	if p.Run(func() { out, err = creator(p).Run(context.Background(), in) }) {
		w.died = true
		return out, fmt.Errorf("process died")
	}
	if err != nil {
		w.errors = append(w.errors, err)
	}
	return out, err
}

// fresh gives the keys that the creates left in the account.
func (w *witness) fresh() []iamkeys.AccessKey {
	return slices.DeleteFunc(w.account.Keys(user), func(k iamkeys.AccessKey) bool { return slices.Contains(w.before, k) })
}

// check holds the account's end state to promises 3 and 4: what was there is as
// it was, and no key is left that neither the secret holds nor an error speaks of.
func (w *witness) check(t interface {
	Helper()
	Errorf(string, ...any)
}) {
	t.Helper()
	now := w.account.Keys(user)
	for _, k := range w.before {
		if !slices.Contains(now, k) {
			t.Errorf("key %s was there before and is not as it was", k.AccessKeyID)
		}
	}
	held := w.account.Held(secret)
	if _, ok := index(now, held); held != "" && !ok {
		t.Errorf("the secret holds %s, which is deleted: its consumers are broken", held)
	}
	for _, k := range w.fresh() {
		if k.AccessKeyID == held || w.died {
			continue
		}
		named := slices.ContainsFunc(w.errors, func(err error) bool {
			switch iamkeys.CodeOf(err) {
			case iamkeys.OrphanedKey:
				return strings.Contains(err.Error(), k.AccessKeyID)
			case iamkeys.DeliveryFailed: // no answer, and the key did not show in time
				return slices.ContainsFunc(nonces(err), func(n string) bool { return slices.Contains(w.account.Trail(n), k.AccessKeyID) })
			}
			return false
		})
		if !named {
			t.Errorf("key %s is undelivered and no error speaks of it: %v", k.AccessKeyID, w.errors)
		}
	}
}

func index(keys []iamkeys.AccessKey, id string) (int, bool) {
	i := slices.IndexFunc(keys, func(k iamkeys.AccessKey) bool { return k.AccessKeyID == id })
	return i, i >= 0
}

// nonces gives the nonces that an error tells to ask CloudTrail for.
func nonces(err error) []string {
	var found []string
	for _, m := range regexp.MustCompile(`iamkeys/([0-9a-f]{6})\b`).FindAllStringSubmatch(err.Error(), -1) {
		found = append(found, m[1])
	}
	return found
}

// obey does what an OrphanedKey says, as a person would.
func obey(t interface{ Fatalf(string, ...any) }, a *iamkeystest.Account, err error) {
	unlock := regexp.MustCompile(`update-secret-version-stage --secret-id \S+:secret:(\S+)-AbCdEf --version-stage (\S+) --remove-from-version-id (\S+)`).FindStringSubmatch(err.Error())
	after := regexp.MustCompile(`take it off after (\S+Z)`).FindStringSubmatch(err.Error())
	if unlock == nil || after == nil || len(nonces(err)) == 0 {
		t.Fatalf("the error does not say how to settle it: %v", err)
	}
	when, e := time.Parse(time.RFC3339, after[1])
	if e != nil {
		t.Fatalf("%v in %v", e, err)
	}
	a.Advance(max(0, when.Sub(a.Now())))
	for _, key := range a.Trail(nonces(err)[0]) {
		if owner := a.OwnerOf(key); owner != "" {
			a.DeleteKey(owner, key)
		}
	}
	if slices.Contains(a.Versions(unlock[1])[unlock[3]], unlock[2]) {
		a.TakeLabelOff(unlock[1], unlock[2])
	}
	a.Advance(max(a.ListLag, a.SecretLag))
}

// settle runs the create again when every lock is dead, and wants one new key,
// delivered, and no other. Where a create tells a person what to do, that is done.
func (w *witness) settle(t *testing.T, in iamkeys.CreateInput) {
	t.Helper()
	w.account.Advance(intentDies)
	out, err := w.create(in, nil)
	if iamkeys.CodeOf(err) == iamkeys.OrphanedKey {
		obey(t, w.account, err)
		out, err = w.create(in, nil)
	}
	if err != nil {
		t.Fatalf("create again: %v", err)
	}
	fresh := w.fresh()
	if len(fresh) != 1 || fresh[0].AccessKeyID != out.AccessKeyID || fresh[0].Status != iamkeys.Active {
		t.Errorf("after create again there are the new keys %v, want just %s", fresh, out.AccessKeyID)
	}
	if held := w.account.Held(secret); held != out.AccessKeyID {
		t.Errorf("the secret holds %q, want %s", held, out.AccessKeyID)
	}
	for _, label := range w.account.Labels(secret) {
		if label != "iamkeys-intent" && !(strings.HasPrefix(label, "iamkeys-made-") && strings.HasSuffix(label, "-"+out.AccessKeyID)) {
			t.Errorf("the label %s was left on the secret", label)
		}
	}
}

func TestCreate(t *testing.T) {
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			a, in := newScene(s)
			w := watch(a)
			out, err := w.create(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !out.Created || out.Verified != (in.Verify == nil) || a.Held(secret) != out.AccessKeyID || out.SecretVersionID != iamkeys.VersionID(user, out.AccessKeyID) {
				t.Errorf("got %+v, secret holds %q", out, a.Held(secret))
			}
			w.check(t)

			again, err := w.create(in, nil)
			if iamkeys.CodeOf(err) == iamkeys.InProgress && a.ListLag+a.SecretLag > 0 {
				a.Advance(time.Minute) // what the create did does not show yet
				again, err = w.create(in, nil)
			}
			if err != nil || again.Created || again.AccessKeyID != out.AccessKeyID || again.SecretVersionID != out.SecretVersionID {
				t.Errorf("the same create again: %+v, %v", again, err)
			}
			w.settle(t, in)
		})
	}
}

// TestCreateFirstVersion: a service that gives a new secret a version of its own
// has delivered nothing by that.
func TestCreateFirstVersion(t *testing.T) {
	a, in := newScene(scenes[0])
	a.MakesFirstVersion = true
	w := watch(a)
	if out, err := w.create(in, nil); err != nil || a.Held(secret) != out.AccessKeyID {
		t.Errorf("got %+v, %v; the secret holds %q", out, err, a.Held(secret))
	}
}

// counted are creates whose calls are counted: all scenes that lag nothing, a rotation's
// third, which takes the record of the first key off, a repeat, and one that removes what
// a dead one has left.
func counted() []scene {
	rotated := func(a *iamkeystest.Account) iamkeys.CreateInput {
		var keys []string
		for range 2 {
			in := iamkeys.CreateInput{UserName: user}
			if len(keys) > 0 {
				in.Replaces = keys[0]
			}
			out, err := creator(a.Start()).Run(context.Background(), in)
			if err != nil {
				panic(err)
			}
			keys = append(keys, out.AccessKeyID)
		}
		a.DeleteKey(user, keys[0])
		return iamkeys.CreateInput{UserName: user, Replaces: keys[1]}
	}
	return append(scenes[:4:4],
		scene{"third of a rotation", rotated},
		scene{"again", func(a *iamkeystest.Account) iamkeys.CreateInput {
			in := rotated(a)
			in.Replaces = ""
			return in
		}},
		scene{"removes a dead one's key", func(a *iamkeystest.Account) iamkeys.CreateInput {
			p := a.Start()
			p.Fault = func(_ int, action string) iamkeystest.Fault {
				if action == "sts:GetCallerIdentity" {
					return iamkeystest.Dies
				}
				return iamkeystest.None
			}
			p.Run(func() { _, _ = creator(p).Run(context.Background(), iamkeys.CreateInput{UserName: user}) })
			a.Advance(intentDies)
			return iamkeys.CreateInput{UserName: user}
		}})
}

// TestCreateCalls holds create to its budget: fourteen calls beside the polls of STS; and
// the seven that remove a dead one's key and read anew.
func TestCreateCalls(t *testing.T) {
	for _, s := range counted() {
		a, in := newScene(s)
		p := a.Start()
		if _, err := creator(p).Run(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		budget := 14 + 7*min(1, p.Count("iam:DeleteAccessKey"))
		if n := len(p.Calls) - p.Count("sts:GetCallerIdentity"); n > budget {
			t.Errorf("%s: %d calls, the budget is %d: %v", s.name, n, budget, p.Calls)
		}
	}
}

// BenchmarkCreate tells the calls that a create makes, beside its polls of STS, and how
// long it waits for a key that STS accepts after 8 s.
func BenchmarkCreate(b *testing.B) {
	for _, s := range counted() {
		b.Run(strings.ReplaceAll(s.name, " ", "-"), func(b *testing.B) {
			var calls, polls int
			var waited time.Duration
			for range b.N {
				a, in := newScene(s)
				a.Propagation = 8 * time.Second
				p, began := a.Start(), a.Now()
				if _, err := creator(p).Run(b.Context(), in); err != nil {
					b.Fatal(err)
				}
				polls, waited = p.Count("sts:GetCallerIdentity"), a.Now().Sub(began)
				calls = len(p.Calls) - polls
			}
			b.ReportMetric(float64(calls), "calls/op")
			b.ReportMetric(float64(polls), "polls/op")
			b.ReportMetric(waited.Seconds(), "waited-s/op")
		})
	}
}

// TestCreateFaults fails each call of a create in every way, then runs the same
// create again.
func TestCreateFaults(t *testing.T) {
	for _, s := range scenes {
		for _, fault := range iamkeystest.Faults {
			t.Run(s.name+"/"+fault.String(), func(t *testing.T) {
				for n := 1; ; n++ {
					a, in := newScene(s)
					w := watch(a)
					reached, struck := false, ""
					_, err := w.create(in, func(p *iamkeystest.Process) {
						p.Fault = func(i int, action string) iamkeystest.Fault {
							if i != n {
								return iamkeystest.None
							}
							reached, struck = true, action
							return fault
						}
					})
					if !reached {
						if n < 8 {
							t.Fatalf("only %d calls were made", n-1)
						}
						return
					}
					t.Run(fmt.Sprint(n), func(t *testing.T) {
						w.check(t)
						lost := struck == "iam:CreateAccessKey" && (fault == iamkeystest.Lost || fault == iamkeystest.Unanswered)
						if !w.died && !lost && struck != "secretsmanager:UpdateSecretVersionStage" && slices.Contains(a.Labels(secret), "iamkeys-lock") {
							t.Errorf("the lock was left on the secret: %v", err)
						}
						w.settle(t, in)
					})
				}
			})
		}
	}
}

// TestCreateOutage fails a call and every later one of the same action, as an
// outage or a missing permission does.
func TestCreateOutage(t *testing.T) {
	for _, s := range scenes {
		for _, fault := range []iamkeystest.Fault{iamkeystest.Refused, iamkeystest.Unanswered, iamkeystest.Lost} {
			for _, action := range []string{"iam:GetUser", "iam:ListAccessKeys", "iam:CreateAccessKey", "iam:DeleteAccessKey", "sts:GetCallerIdentity",
				"secretsmanager:DescribeSecret", "secretsmanager:CreateSecret", "secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage"} {
				for from := range 3 {
					t.Run(fmt.Sprintf("%s/%s %s after %d", s.name, action, fault, from), func(t *testing.T) {
						a, in := newScene(s)
						w := watch(a)
						seen := 0
						_, _ = w.create(in, func(p *iamkeystest.Process) {
							p.Fault = func(_ int, called string) iamkeystest.Fault {
								if called == action {
									if seen++; seen > from {
										return fault
									}
								}
								return iamkeystest.None
							}
						})
						w.check(t)
						w.settle(t, in)
					})
				}
			}
		}
	}
}

// TestCreateCannotUndo fails the delivery for certain, and then the deletion of
// the new key too: the key stays, the error names it, and the next run settles it.
func TestCreateCannotUndo(t *testing.T) {
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			a, in := newScene(s)
			w := watch(a)
			_, err := w.create(in, func(p *iamkeystest.Process) {
				puts := 0
				p.Fault = func(_ int, action string) iamkeystest.Fault {
					if action == "secretsmanager:PutSecretValue" {
						puts++
					}
					if action == "iam:DeleteAccessKey" || puts > 1 && action == "secretsmanager:PutSecretValue" {
						return iamkeystest.Refused
					}
					return iamkeystest.None
				}
			})
			if iamkeys.CodeOf(err) != iamkeys.OrphanedKey || len(w.fresh()) != 1 {
				t.Fatalf("got %v with new keys %v, want OrphanedKey and the key left", err, w.fresh())
			}
			w.check(t)
			w.settle(t, in)
		})
	}
}

// TestCreateSecretChanges: somebody changes the secret while the key is made.
// Theirs stays, and the new key goes.
func TestCreateSecretChanges(t *testing.T) {
	for name, change := range map[string]func(*iamkeystest.Account){
		"new value": func(a *iamkeystest.Account) { a.PutSecret(secret, "somebody-elses-version-of-this-secret") },
		"deletion":  func(a *iamkeystest.Account) { a.ScheduleDeletion(secret) },
	} {
		for n := 1; ; n++ {
			a, in := newScene(scenes[1])
			w := watch(a)
			reached, made := false, false
			_, err := w.create(in, func(p *iamkeystest.Process) {
				p.Before = func(i int, action string) {
					made = made || action == "sts:GetCallerIdentity"
					if i == n && (action == "sts:GetCallerIdentity" || !made) {
						reached = true
						change(a)
					}
				}
			})
			if !reached {
				break
			}
			if err == nil || len(w.fresh()) > 0 {
				t.Errorf("%s before call %d: %v, new keys %v; want a refusal and no new key", name, n, err, w.fresh())
			}
			w.check(t)
		}
	}
}

// TestCreateOutOfTime: the caller's context ends at any call. No key is left
// that no error speaks of: clearing up does not end with the context.
func TestCreateOutOfTime(t *testing.T) {
	for _, s := range scenes {
		for n := 1; ; n++ {
			a, in := newScene(s)
			w := watch(a)
			ctx, cancel := context.WithCancel(t.Context())
			p := a.Start()
			p.Before = func(i int, _ string) {
				if i == n {
					cancel()
				}
			}
			_, err := creator(p).Run(ctx, in)
			if ctx.Err() == nil {
				break
			}
			if err != nil {
				w.errors = append(w.errors, err)
			}
			w.check(t)
			switch stopped := p.Calls[n-1]; {
			case p.Count("iam:CreateAccessKey") == 0 || stopped == "iam:CreateAccessKey" || stopped == "secretsmanager:PutSecretValue":
			case err != nil && len(w.fresh()) > 0:
				t.Errorf("%s, call %d (%s): %v, and the key %v is left", s.name, n, stopped, err, w.fresh())
			}
			w.settle(t, in)
			cancel()
		}
	}
}

// TestCreateLostAnswer: CreateAccessKey gets no answer, with and without effect, while
// somebody makes a key of that user, or nobody does. Nothing is deleted.
func TestCreateLostAnswer(t *testing.T) {
	for _, fault := range []iamkeystest.Fault{iamkeystest.Unanswered, iamkeystest.Lost} {
		for _, before := range []string{"", "secretsmanager:PutSecretValue", "iam:CreateAccessKey", "after"} {
			for _, lag := range []time.Duration{0, 10 * time.Second} {
				a, in := newScene(scenes[0])
				a.ListLag = lag
				w, theirs, lists := watch(a), "", 0
				_, err := w.create(in, func(p *iamkeystest.Process) {
					p.Before = func(_ int, action string) {
						if action == "iam:ListAccessKeys" {
							lists++
						}
						if theirs == "" && (action == before || before == "after" && lists == 2) {
							theirs = a.AddKey(user, 0)
						}
					}
					p.Fault = func(_ int, action string) iamkeystest.Fault {
						if action == "iam:CreateAccessKey" {
							return fault
						}
						return iamkeystest.None
					}
				})
				want := iamkeys.OrphanedKey
				if before == "" && fault == iamkeystest.Unanswered {
					want = iamkeys.DeliveryFailed
				}
				if iamkeys.CodeOf(err) != want || len(nonces(err)) == 0 {
					t.Errorf("%s, somebody makes a key before %q: got %v, want %s with a nonce", fault, before, err, want)
				}
				if deleted := a.Deleted(); len(deleted) > 0 {
					t.Errorf("%s, somebody makes a key before %q: %v were deleted", fault, before, deleted)
				}
				w.before = append(w.before, slices.DeleteFunc(a.Keys(user), func(k iamkeys.AccessKey) bool { return k.AccessKeyID != theirs })...)
				w.check(t)
				a.Advance(intentDies)
				if want == iamkeys.DeliveryFailed {
					w.settle(t, in)
					continue
				}
				_, err = w.create(in, nil)
				if iamkeys.CodeOf(err) != iamkeys.OrphanedKey || len(a.Deleted()) > 0 {
					t.Errorf("%s, somebody makes a key before %q: the next create: %v, deleted %v", fault, before, err, a.Deleted())
				}
				obey(t, a, err)
				if made := slices.DeleteFunc(a.Keys(user), func(k iamkeys.AccessKey) bool { return k.AccessKeyID == theirs }); fault == iamkeystest.Lost && len(made) > 0 || theirs != "" && status(a, theirs) != iamkeys.Active {
					t.Errorf("%s, somebody makes a key before %q: when it was settled there are %v", fault, before, a.Keys(user))
				}
			}
		}
	}
}

// TestCreatePassingFaults: a fault of the intent's Put or of the lock that passes does
// not fail the create.
func TestCreatePassingFaults(t *testing.T) {
	for _, action := range []string{"secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage"} {
		for _, fault := range []iamkeystest.Fault{iamkeystest.Unanswered, iamkeystest.Lost} {
			a, in := newScene(scenes[0])
			calls := 0
			_, err := watch(a).create(in, func(p *iamkeystest.Process) {
				p.Fault = func(_ int, called string) iamkeystest.Fault {
					if called == action {
						if calls++; calls == 1 {
							return fault
						}
					}
					return iamkeystest.None
				}
			})
			if err != nil || len(a.Keys(user)) != 1 {
				t.Errorf("%s of %s: %v, keys %v", fault, action, err, a.Keys(user))
			}
		}
	}
}

// TestCreateSlow lets one action take long, and maybe all of IAM from
// CreateAccessKey on. However long they take, the create ends within its timeout,
// and leaves no key that no error speaks of.
func TestCreateSlow(t *testing.T) {
	for _, s := range scenes {
		for _, slow := range []string{"iam:GetUser", "iam:ListAccessKeys", "iam:CreateAccessKey", "iam:DeleteAccessKey", "sts:GetCallerIdentity",
			"secretsmanager:DescribeSecret", "secretsmanager:CreateSecret", "secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage"} {
			for _, takes := range []time.Duration{3 * time.Second, 7 * time.Second, 25 * time.Second, 40 * time.Second, 65 * time.Second, 130 * time.Second, time.Hour} {
				for _, hangs := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) { createSlowly(t, s, slow, takes, hangs) })
				}
			}
		}
	}
}

func createSlowly(t *testing.T, s scene, slow string, takes time.Duration, hangs bool) {
	a, in := newScene(s)
	w := watch(a)
	p, begun := a.Start(), false
	wait := func(ctx context.Context, d time.Duration) error {
		began := time.Now()
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		a.Advance(time.Since(began))
		return ctx.Err()
	}
	p.Wait = func(ctx context.Context, action string) {
		begun = begun || action == "iam:CreateAccessKey"
		if began := time.Now(); action == "iam:CreateAccessKey" {
			defer func() {
				if took := time.Since(began); took > 8*time.Second {
					t.Errorf("%s: %s of %s, IAM hangs %v: the attempt took %s", s.name, slow, takes, hangs, took)
				}
			}()
		}
		switch {
		case hangs && begun && strings.HasPrefix(action, "iam:"):
			_ = wait(ctx, time.Hour)
		case action == slow:
			_ = wait(ctx, takes)
		}
	}
	o := creator(p)
	o.Sleep = wait
	began := time.Now()
	_, err := o.Run(t.Context(), in)
	if err != nil {
		w.errors = append(w.errors, err)
	}
	if took := time.Since(began); took > iamkeys.CreateTimeout-5*time.Second { // Lambda's own time aside
		t.Errorf("%s: %s of %s, IAM hangs %v: took %s: %v", s.name, slow, takes, hangs, took, err)
	}
	w.check(t)
	p.Wait = nil
	w.settle(t, in)
}

// TestCreateBeside runs a second create, whole, before each call of the first.
func TestCreateBeside(t *testing.T) {
	for _, s := range scenes {
		for n := 1; ; n++ {
			a, in := newScene(s)
			w := watch(a)
			reached := false
			_, _ = w.create(in, func(p *iamkeystest.Process) {
				p.Before = func(i int, _ string) {
					if i == n {
						reached = true
						_, _ = w.create(in, nil)
					}
				}
			})
			if !reached {
				break
			}
			t.Run(fmt.Sprintf("%s/%d", s.name, n), func(t *testing.T) {
				w.check(t)
				if len(w.fresh()) > 1 {
					t.Errorf("two creates made %v", w.fresh())
				}
				w.settle(t, in)
			})
		}
	}
}
