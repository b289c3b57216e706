package iamkeys_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

// TestCreateRandomly lets creates, of the same or other users on the same or other
// secrets, and events delivered again, meet an account that is as weak as AWS's
// documentation allows: lists and labels that show what others did up to ten seconds
// late, clocks two minutes apart, calls that take long, fail, are throttled, lose their
// answers or die; and people and other tools who make, switch and delete keys, put
// values, take labels off, scrap secrets, rename, delete and make users anew at any
// moment, also inside a create. A witness holds every call to the promises.
func TestCreateRandomly(t *testing.T) {
	for i := range 4 { // times rapid.checks
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) { newTown(rt).run() })
		})
	}
}

const (
	another = "bob"
	shared  = "iamkeys/shared"
)

var towns = []string{secret, shared, "iamkeys/bob/access-key"} // the secrets

// A town is an account, creates at work in it, and what the witness knows.
type town struct {
	*iamkeystest.Account
	rt       *rapid.T
	turns    *iamkeystest.Turns
	creates  []*creating
	log      bytes.Buffer
	told     []error         // what creates have answered
	ever     map[string]bool // keys that a version has been put for
	recorded map[string]bool // keys that the create that made them has on record
	vandal   bool            // somebody has taken a lock or record off, or renamed or removed a user
}

// A creating is one create of a town.
type creating struct {
	*iamkeystest.Process
	in      iamkeys.CreateInput
	on      string // the secret
	started time.Time
	asked   time.Time // its latest call
	key     string    // that it made
	ended   bool      // it has answered, or died
	died    bool
	out     iamkeys.CreateOutput
	err     error
}

func newTown(rt *rapid.T) *town {
	w := &town{Account: iamkeystest.NewAccount(), rt: rt, ever: map[string]bool{}, recorded: map[string]bool{}}
	chance := func(one, of int, what string) bool { return rapid.IntRange(1, of).Draw(rt, what) <= one }
	seconds := func(most int, what string) time.Duration {
		return time.Duration(rapid.IntRange(0, most).Draw(rt, what)) * time.Second
	}
	w.ListLag, w.SecretLag, w.WriteLag, w.Propagation = seconds(10, "list lag"), seconds(10, "secret lag"), seconds(5, "write lag"), seconds(12, "propagation")
	w.RefusesStanding, w.DeniesUnknown = chance(1, 2, "refuses standing"), chance(1, 4, "denies unknown")
	random := rand.New(rand.NewPCG(uint64(rapid.IntRange(0, 1000).Draw(rt, "how late")), 0))
	w.Late = func(most time.Duration) time.Duration { return time.Duration(random.Int64N(int64(most) + 1)) }

	olds := map[string]string{}
	for _, name := range []string{user, another} {
		w.AddUser(name)
		if chance(1, 2, "has a key") {
			old := w.AddKey(name, 80*day)
			olds[name] = old
			if chance(1, 2, "delivered") {
				w.Deliver(rapid.SampledFrom(towns).Draw(rt, "to"), name, old)
				w.ever[old] = true
			}
		}
	}
	w.Advance(time.Hour)

	n := rapid.IntRange(1, 4).Draw(rt, "creates")
	w.turns = iamkeystest.TakeTurns(w.Account, n, w.pick)
	earliest := rapid.IntRange(-120, 0).Draw(rt, "earliest clock")
	for range n {
		c := &creating{Process: w.Start(), in: iamkeys.CreateInput{UserName: user, Overwrite: chance(1, 4, "overwrite")}}
		c.Clock = time.Duration(earliest+rapid.SampledFrom([]int{0, 60, 120}).Draw(rt, "clock")) * time.Second
		if chance(1, 4, "another user") {
			c.in.UserName = another
		}
		if c.on = (iamkeys.SecretNames{Prefix: "iamkeys/"}).Default(c.in.UserName); chance(1, 3, "shared secret") {
			c.in.SecretID, c.on = shared, shared
		}
		if chance(2, 3, "replaces") {
			c.in.Replaces = olds[c.in.UserName]
		}
		if chance(1, 5, "unverified") {
			c.in.Verify = new(false)
		}
		w.arrange(c)
	}
	return w
}

// arrange lets the create begin at some time, take turns, and meet faults.
func (w *town) arrange(c *creating) {
	i := len(w.creates)
	w.creates = append(w.creates, c)
	faults := map[int]iamkeystest.Fault{}
	for range rapid.IntRange(0, 2).Draw(w.rt, "faults") {
		faults[rapid.IntRange(1, 16).Draw(w.rt, "at call")] = rapid.SampledFrom(iamkeystest.Faults).Draw(w.rt, "fault")
	}
	c.Before = func(int, string) {
		c.asked = w.Now()
		w.turns.Wait(i)
	}
	c.Fault = func(n int, action string) iamkeystest.Fault {
		reads := strings.Contains(action, ":Get") || strings.Contains(action, ":List") || strings.Contains(action, ":Describe")
		switch late := w.Now().Sub(c.asked) > 8*time.Second && !reads; {
		case w.Now().Sub(c.started) > iamkeys.CreateTimeout:
			return iamkeystest.Dies
		case late && action == "iam:CreateAccessKey":
			return iamkeystest.Unanswered // the attempt has ended
		case late:
			return iamkeystest.Lost
		}
		return faults[n]
	}
	c.After = func(action string, err error) { w.witness(c, action, err) }
	o := creator(c.Process)
	o.Log = slog.New(slog.NewTextHandler(&w.log, nil))
	o.Sleep = func(ctx context.Context, d time.Duration) error { return w.turns.Sleep(ctx, i, d) }
	after := rapid.SampledFrom([]time.Duration{0, 0, 3 * time.Second, 12 * time.Second, 40 * time.Second, iamkeys.LockLife - 121*time.Second, iamkeys.LockLife - time.Second,
		iamkeys.LockLife + time.Second, iamkeys.LockLife + 121*time.Second, 2 * iamkeys.LockLife}).Draw(w.rt, "begins after")
	w.turns.Go(i, func() {
		_ = w.turns.Sleep(context.Background(), i, after)
		c.started = w.Now()
		c.died = c.Run(func() { c.out, c.err = o.Run(context.Background(), c.in) })
		w.answered(c)
	})
}

// pick says whose turn it is, after a pause and after what people do: mostly one of those
// who are to wake next.
func (w *town) pick(ready []int) int {
	w.Advance(rapid.SampledFrom([]time.Duration{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, time.Second, 4 * time.Second, 9 * time.Second}).Draw(w.rt, "pause"))
	if rapid.IntRange(0, 11).Draw(w.rt, "somebody") == 0 {
		w.somebody()
	}
	if rapid.IntRange(0, 39).Draw(w.rt, "anybody") != 0 {
		first := w.turns.Sleeps(slices.MinFunc(ready, func(i, j int) int { return cmp.Compare(w.turns.Sleeps(i), w.turns.Sleeps(j)) }))
		ready = slices.DeleteFunc(ready, func(i int) bool { return w.turns.Sleeps(i) > first })
	}
	return rapid.SampledFrom(ready).Draw(w.rt, "turn")
}

// somebody does what people and other tools do.
func (w *town) somebody() {
	name := rapid.SampledFrom([]string{user, user, user, another}).Draw(w.rt, "user")
	on := rapid.SampledFrom(towns).Draw(w.rt, "secret")
	there := slices.ContainsFunc(w.Made(), func(iamkeys.AccessKey) bool { return true })
	keys := w.Keys(name)
	switch act := rapid.IntRange(0, 12).Draw(w.rt, "act"); {
	case act <= 2:
		if w.HasUser(name) && len(keys) < 2 {
			w.AddKey(name, 0)
		}
	case act <= 4 && len(keys) > 0:
		w.DeleteKey(name, rapid.SampledFrom(keys).Draw(w.rt, "key").AccessKeyID)
	case act == 5 && len(keys) > 0:
		w.SetStatus(name, rapid.SampledFrom(keys).Draw(w.rt, "key").AccessKeyID, rapid.SampledFrom([]iamkeys.Status{iamkeys.Active, iamkeys.Inactive}).Draw(w.rt, "status"))
	case act <= 7:
		w.PutSecret(on, fmt.Sprintf("somebody-elses-version-number-%d", w.Now().UnixNano()))
	case act == 8:
		if labels := w.Labels(on); len(labels) > 0 {
			slices.Sort(labels)
			label := rapid.SampledFrom(labels).Draw(w.rt, "label")
			w.vandal = w.vandal || label != "iamkeys-intent"
			w.TakeLabelOff(on, label)
		}
	case act == 9:
		w.ScheduleDeletion(on)
	case act == 10:
		w.RestoreSecret(on)
	case act == 11 && there && w.HasUser(name):
		w.vandal = true
		if renamed := name + "-renamed"; !w.HasUser(renamed) {
			w.RenameUser(name, renamed)
			if rapid.Bool().Draw(w.rt, "made anew") {
				w.AddUser(name)
			}
		}
	case act == 12:
		w.vandal = true
		if w.HasUser(name) {
			w.RemoveUser(name)
		}
		w.AddUser(name)
	}
}

// atWork reports whether the create may still do something.
func (w *town) atWork(c *creating) bool {
	return !c.ended && w.Now().Sub(c.started) <= iamkeys.CreateTimeout
}

// witness looks at what a call of a create did.
func (w *town) witness(c *creating, action string, err error) {
	if err != nil {
		return
	}
	switch action {
	case "iam:CreateAccessKey":
		made := w.Made()
		c.key = made[len(made)-1].AccessKeyID
		for _, other := range w.creates {
			if other != c && other.on == c.on && other.key != "" && w.atWork(other) && !w.ever[other.key] && w.OwnerOf(other.key) != "" && !w.vandal {
				w.rt.Errorf("promise 6: two creates are at work on %s, with the keys %s and %s", c.on, other.key, c.key)
			}
		}
	case "secretsmanager:UpdateSecretVersionStage":
		for _, label := range w.Labels(c.on) {
			w.recorded[c.key] = w.recorded[c.key] || c.key != "" && strings.HasPrefix(label, "iamkeys-made-") && strings.HasSuffix(label, c.key)
		}
	case "secretsmanager:PutSecretValue":
		if held := w.Held(c.on); held != "" {
			w.ever[held] = true
		}
	case "iam:DeleteAccessKey":
		deleted := w.Deleted()
		id := deleted[len(deleted)-1].AccessKeyID
		maker := slices.IndexFunc(w.creates, func(m *creating) bool { return m.key == id })
		switch {
		case w.ever[id]:
			w.rt.Errorf("promise 3: %s was delivered, and a create deleted it", id)
		case maker < 0:
			w.rt.Errorf("promise 3: a create deleted %s, which no create has made", id)
		case w.creates[maker] != c && w.atWork(w.creates[maker]):
			w.rt.Errorf("promise 3: a create deleted %s, whose maker is at work", id)
		case w.creates[maker] != c && !w.recorded[id]:
			w.rt.Errorf("promise 3: a create deleted %s, which its maker has not on record", id)
		}
	}
}

// answered looks at a create that has answered or died.
func (w *town) answered(c *creating) {
	c.ended = true
	if c.died {
		return
	}
	if c.err != nil {
		w.told = append(w.told, c.err)
	}
	if c.err == nil && (!w.ever[c.out.AccessKeyID] || c.out.Created != (c.out.AccessKeyID == c.key)) {
		w.rt.Errorf("promise 4: a create answers %+v, it made %q, and the key was delivered: %t", c.out, c.key, w.ever[c.out.AccessKeyID])
	}
	if c.key != "" && !w.ever[c.key] && w.OwnerOf(c.key) != "" && !w.named(c.key, c.err) {
		w.rt.Errorf("promise 4: %s is left over, and its create does not say so: %v", c.key, c.err)
	}
	if text := fmt.Sprintf("%+v %v", c.out, c.err) + w.log.String(); strings.Contains(text, iamkeystest.SecretOf("")[:12]) {
		w.rt.Errorf("promise 5: a secret shows in %s", text)
	}
}

// named reports whether the error names the key, or what CloudTrail tells it by.
func (w *town) named(key string, err error) bool {
	return err != nil && (strings.Contains(err.Error(), key) || slices.ContainsFunc(nonces(err), func(n string) bool { return slices.Contains(w.Trail(n), key) }))
}

// run lets everything happen. Then nobody and nothing interferes any more: what dead
// creates have left is gone, or somebody was told of it, and in the end a create has its way.
func (w *town) run() {
	w.turns.Run()
	for _, on := range towns {
		w.RestoreSecret(on)
	}
	for _, c := range w.creates {
		for tries := 0; ; tries++ {
			w.Advance(iamkeys.LockLife + 121*time.Second)
			if !w.HasUser(c.in.UserName) {
				break
			}
			p := w.Start()
			o := creator(p)
			last := &creating{Process: p, in: c.in, on: c.on}
			w.creates = append(w.creates, last)
			p.After = func(action string, err error) { w.witness(last, action, err) }
			last.out, last.err = o.Run(context.Background(), c.in)
			w.answered(last)
			code := iamkeys.CodeOf(last.err)
			if code == iamkeys.OrphanedKey && tries < 3 {
				obey(w.rt, w.Account, last.err)
				continue
			}
			if settled := []iamkeys.Code{"", iamkeys.NoSuchEntity, iamkeys.LimitExceeded, iamkeys.SecretInUse}; !slices.Contains(settled, code) {
				w.rt.Errorf("in the end a create of %+v answers %v", c.in, last.err)
			}
			break
		}
	}
	for _, c := range w.creates {
		if c.key == "" || w.ever[c.key] || w.OwnerOf(c.key) == "" || w.vandal {
			continue
		}
		if !slices.ContainsFunc(w.told, func(err error) bool { return w.named(c.key, err) }) {
			w.rt.Errorf("promise 4: %s is left over, and nobody was told", c.key)
		}
	}
}
