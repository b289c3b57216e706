package simulation

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"iamkeys/pkg/iamkeys"
)

// What is promised of last use, exactly. IAM notes one use of a key within 15
// minutes, and shows it after a delay, hours at worst. So a rotation switches a
// key off only if no use of it within the quiet window had come to be shown when
// the function that did it was invoked, give or take those 15 minutes. A
// consumer whose gaps between uses, with the delay and the 15 minutes, fit into
// the quiet window is therefore never cut off; one with longer gaps may be, and
// has the soak to be noticed in.
//
// The same goes for what else a function reads: lists of keys and a secret's
// versions lag by seconds. What the witness holds a function to is what was so
// at some moment from its invocation, less the lag, until it acted: nobody can
// read a key and change it in one step.
const noted = 15 * time.Minute

// limits on an execution: Step Functions ends one at 25,000 events.
const (
	maxPayload = 32 << 10
	maxEvents  = 25_000
)

// reporter is what a witness reports to: a test, or one run of a property.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

// A witness sees every change of the account and holds it to the promises.
type witness struct {
	w *world
	t reporter

	history []snapshot
	acting  *hand // whose call may have changed something since the last look
	action  string

	touched  map[string]bool      // what a person has changed: key IDs, "user", "secret"
	made     map[string]*hand     // keys made by create
	holding  map[string]bool      // keys that the secret has delivered at some time
	gone     map[string]string    // keys that stopped working: by whom, "person" or "iamkeys"
	off      map[string]offRecord // keys that deactivate has switched off
	used     map[string][]use     // accepted uses by consumers
	foreign  time.Time            // since when the secret holds a value of somebody else's; zero when it does not
	scrapped bool                 // the secret is scheduled for deletion
	notices  int                  // messages seen
	intents  []time.Time          // when creates have left one
}

type snapshot struct {
	at   time.Time
	keys []iamkeys.AccessKey
	held string
}

type offRecord struct {
	at, began time.Time // of the change, and of the function's invocation
	quiet     time.Duration
}

type use struct {
	at      time.Time
	service string
}

func newWitness(w *world, t reporter) witness {
	return witness{
		w: w, t: t, touched: map[string]bool{}, made: map[string]*hand{}, holding: map[string]bool{},
		gone: map[string]string{}, off: map[string]offRecord{}, used: map[string][]use{},
	}
}

// held is the key that the secret delivers, "" for none.
func (w *world) held() string {
	if w.scrapped {
		return ""
	}
	return w.Held(w.secretID)
}

// look gives the account's state.
func (v *witness) look() snapshot {
	return snapshot{v.w.Now(), append(v.w.Keys(user), v.w.Keys(renamed)...), v.w.held()}
}

// holder gives the name of the user who has the key.
func (w *world) holder(id string) string {
	if slices.ContainsFunc(w.Keys(renamed), func(k iamkeys.AccessKey) bool { return k.AccessKeyID == id }) {
		return renamed
	}
	return user
}

func (s snapshot) status(id string) iamkeys.Status {
	for _, k := range s.keys {
		if k.AccessKeyID == id {
			return k.Status
		}
	}
	return ""
}

func (s snapshot) key(id string) iamkeys.AccessKey {
	i := slices.IndexFunc(s.keys, func(k iamkeys.AccessKey) bool { return k.AccessKeyID == id })
	if i < 0 {
		return iamkeys.AccessKey{}
	}
	return s.keys[i]
}

// before gives the last state that was noted.
func (v *witness) before() snapshot {
	if len(v.history) == 0 {
		return snapshot{}
	}
	return v.history[len(v.history)-1]
}

// ever reports whether something was so at some moment since then.
func (v *witness) ever(since time.Time, so func(snapshot) bool) bool {
	for _, s := range slices.Backward(v.history) {
		if so(s) {
			return true
		}
		if !s.at.After(since) {
			return false
		}
	}
	return false
}

// acts says that the function's next call may change something.
func (v *witness) acts(h *hand, action string) {
	v.settle()
	switch action {
	case "iam:ListAccessKeys", "iam:GetUser", "iam:GetAccessKeyLastUsed", "secretsmanager:DescribeSecret", "sts:GetCallerIdentity":
	default:
		v.acting, v.action = h, action
		if h.function == "create" && action == "secretsmanager:PutSecretValue" {
			v.intents = append(v.intents, h.asked) // which is the intent's time
		}
	}
}

// person does what a person does, to these keys, "user" or "secret".
func (v *witness) person(do func(), to ...string) {
	v.settle()
	do()
	for _, what := range to {
		v.touched[what] = true
	}
	now, before := v.look(), v.before()
	for _, k := range before.keys {
		if s := now.status(k.AccessKeyID); s != k.Status && s != iamkeys.Active {
			v.gone[k.AccessKeyID] = "person"
		} else if s != k.Status {
			delete(v.gone, k.AccessKeyID)
		}
	}
	v.history = append(v.history, now)
	v.holding[now.held] = true
	v.w.tell("a person changed %v: %v, the secret holds %q", to, now.keys, now.held)
}

// settle looks at what the last call has changed.
func (v *witness) settle() {
	h := v.acting
	if h == nil {
		return
	}
	v.acting = nil
	if v.action == "sns:Publish" {
		for _, m := range v.w.Messages()[v.notices:] {
			v.notices++
			v.told(h, m)
		}
		return
	}
	now, before := v.look(), v.before()
	if now.held == before.held && slices.Equal(now.keys, before.keys) {
		return
	}
	for _, k := range before.keys {
		switch s := now.status(k.AccessKeyID); {
		case s == k.Status:
		case s == "":
			v.deleted(h, k)
		case s == iamkeys.Inactive && k.Status == iamkeys.Active:
			v.switchedOff(h, k)
		case h.function == "activate":
			delete(v.gone, k.AccessKeyID)
		default:
			v.fail("promise 8: %s made %s of %s key %s: nothing reactivates a key by itself", h.function, s, k.Status, k.AccessKeyID)
		}
	}
	for _, k := range now.keys {
		if before.status(k.AccessKeyID) == "" {
			v.created(h, k, before)
		}
	}
	if now.held != before.held {
		v.delivered(h, now, before)
	}
	v.history = append(v.history, now)
	v.w.tell("%s changed: %v, the secret holds %q", h.function, now.keys, now.held)
}

// created holds a new key to promises 6 and 7.
func (v *witness) created(h *hand, k iamkeys.AccessKey, before snapshot) {
	v.goesFirst(h)
	if h.function != "create" {
		v.fail("%s made key %s", h.function, k.AccessKeyID)
	}
	for _, other := range before.keys {
		if v.made[other.AccessKeyID] != nil && v.w.holder(other.AccessKeyID) == user && other.AccessKeyID != h.execution.old() && !v.touched["secret"] {
			v.fail("promise 6: key %s was made while %s, made before, is there", k.AccessKeyID, other.AccessKeyID)
		}
	}
	v.made[k.AccessKeyID] = h
}

// delivered holds a change of what consumers read to promise 4.
func (v *witness) delivered(h *hand, now, before snapshot) {
	v.holding[now.held] = true
	k := now.key(now.held)
	switch {
	case v.made[now.held] != h:
		v.fail("promise 4: %s made the secret hold %q, which it has not made", h.function, now.held)
	case k.Status != iamkeys.Active && v.gone[now.held] != "person":
		v.fail("promise 4: the secret was made to hold %s, which is %q", now.held, k.Status)
	case now.at.Before(k.CreateDate.Add(v.w.Propagation)):
		v.fail("promise 4: the secret was made to hold %s before AWS accepts it", now.held)
	case before.held != h.execution.old() && before.status(before.held) == iamkeys.Active && !v.ever(h.began.Add(-v.w.SecretLag), func(s snapshot) bool { return s.held != before.held }):
		v.fail("a consumer of %s was switched over to %s unasked", before.held, now.held)
	case !v.foreign.IsZero() && v.foreign.Before(h.began.Add(-v.w.SecretLag)) && h.execution.input["overwrite"] != true:
		v.fail("a value that iamkeys did not write was replaced unasked")
	}
	v.foreign = time.Time{}
}

// replaced reports whether the execution's new key was Active and delivered, for
// all that the function could know.
func (v *witness) replaced(h *hand) bool {
	id := h.execution.newKey
	return v.ever(h.began.Add(-v.w.ListLag), func(s snapshot) bool { return s.status(id) == iamkeys.Active }) &&
		v.ever(h.began.Add(-v.w.SecretLag), func(s snapshot) bool { return s.held == id })
}

// switchedOff holds the deactivation of a key to promises 2, 8 and 9.
func (v *witness) switchedOff(h *hand, k iamkeys.AccessKey) {
	e, now, id := h.execution, v.w.Now(), k.AccessKeyID
	hours, _ := h.payload["quietHours"].(float64)
	if !e.ordered.IsZero() {
		v.gone[id] = "person"
		if h.function != "deactivate" || hours != 0 {
			v.fail("promise 2: a person's %s switched off %s", h.function, id)
		}
		if late := now.Sub(e.ordered); late > time.Minute+h.timeout {
			v.fail("promise 8: a person's order to switch off %s was carried out %v later", id, late)
		}
		return
	}
	record := offRecord{now.Add(h.skew), h.began, time.Duration(hours)*time.Hour + iamkeys.LastUsedLag}
	v.off[id], v.gone[id] = record, "iamkeys"
	if e.event != nil {
		v.exposedOff(h, k)
		return
	}
	v.goesFirst(h)
	if e.machine == retirement() {
		v.retired(h, k, record)
		return
	}
	if h.function != "deactivate" || id != e.old() {
		v.fail("promise 2: %s switched off %s, which is not the key to be replaced", h.function, id)
		return
	}
	if record.quiet < 30*hour {
		v.fail("promise 2: %s was switched off with a quiet window of %v", id, record.quiet)
	}
	if k.CreateDate.After(record.at.Add(-record.quiet)) {
		v.fail("promise 2: %s was switched off %v after its creation", id, now.Sub(k.CreateDate))
	}
	for _, u := range v.used[id] {
		if record.forbids(u.at, v.w.LastUsedLag) {
			v.fail("promise 2: %s was switched off %v after a use that IAM showed", id, now.Sub(u.at))
		}
	}
	adopted := func(u use) bool {
		return u.service != "sts" || u.at.After(v.before().key(e.newKey).CreateDate.Add(time.Hour))
	}
	if !slices.ContainsFunc(v.used[e.newKey], adopted) {
		v.fail("promise 2: %s was switched off, and no consumer has used %s, which replaces it", id, e.newKey)
	}
	if !v.replaced(h) {
		v.fail("promise 9: %s was switched off, and %s, which replaces it, is %q and the secret holds %q", id, e.newKey, v.before().status(e.newKey), v.before().held)
	}
	if !slices.ContainsFunc(e.answers, func(a answer) bool { return a.stage == "ready" && a.errorName == "" }) {
		v.fail("%s was switched off, and nobody was told that %s is ready", id, e.newKey)
	}
	if !e.quiet.IsZero() && h.began.After(e.quiet) {
		v.fail("promise 8: %s was switched off a second time: somebody had reactivated it", id)
	}
}

// forbids reports whether a use at that time forbade to switch the key off.
func (r offRecord) forbids(used time.Time, lag time.Duration) bool {
	return used.After(r.at.Add(-r.quiet+noted)) && !used.After(r.began.Add(-lag))
}

// deleted holds a deletion to promises 3, 8 and 9.
func (v *witness) deleted(h *hand, k iamkeys.AccessKey) {
	e, id, now := h.execution, k.AccessKeyID, v.w.Now()
	switch {
	case k.Status == iamkeys.Active && v.touched[id]:
		v.gone[id] = "person" // who reactivated it when its deletion was under way
	case v.gone[id] == "":
		v.gone[id] = "iamkeys"
	}
	switch h.function {
	case "create": // what it has made itself, or a dead one has, and could not deliver
		if v.made[id] == nil || v.holding[id] || len(v.used[id]) > 0 {
			v.fail("promise 3: create deleted %s, which was made by create: %v, delivered: %v, used: %v", id, v.made[id] != nil, v.holding[id], v.used[id])
		}
	case "delete":
		if !e.ordered.IsZero() {
			v.gone[id] = "person"
			if k.Status == iamkeys.Active && !v.ever(h.began.Add(-v.w.ListLag), func(s snapshot) bool { return s.status(id) == iamkeys.Inactive }) {
				v.fail("promise 3: %s was deleted while it was Active", id)
			}
			return
		}
		v.goesFirst(h)
		if !v.ever(h.began.Add(-v.w.ListLag), func(s snapshot) bool { return s.status(id) == iamkeys.Inactive || s.status(id) == iamkeys.Expired }) {
			v.fail("promise 3: %s was deleted while it was %s", id, k.Status)
		}
		if e.machine == retirement() {
			v.removed(h, k)
			return
		}
		if id != e.old() {
			v.fail("promise 3: %s was deleted, which is not the key to be replaced", id)
		}
		if !v.replaced(h) {
			v.fail("promise 9: %s was deleted, and %s, which replaces it, is %q and the secret holds %q", id, e.newKey, v.before().status(e.newKey), v.before().held)
		}
		soaks := e.quiet
		if soaks.IsZero() {
			soaks = e.began
		}
		soak := time.Duration(e.plan.SoakDays) * day
		if got := h.began.Sub(soaks); got < soak || soak < day {
			v.fail("promise 8: %s was deleted after %v, its soak is %v", id, got, soak)
		}
		for _, u := range v.used[id] {
			if u.at.After(now.Add(-soak+noted)) && !u.at.After(h.began.Add(-v.w.LastUsedLag)) {
				v.fail("promise 8: %s was deleted %v after a use that IAM showed, its soak is %v", id, now.Sub(u.at), soak)
			}
		}
	default:
		v.fail("promise 3: %s deleted %s", h.function, id)
	}
}

var (
	secretText = []byte("wJalr/SECRET")
	keyLines   = regexp.MustCompile(`(?m)^(Old key|New key|Key) +(\w+)  (.+)$`)
)

// state holds what Step Functions keeps of a state to its bounds, and to promise 5.
func (w *world) state(payload []byte) {
	w.largest = max(w.largest, len(payload))
	if len(payload) > maxPayload {
		w.fail("a state's payload has %d bytes: %.200s", len(payload), payload)
	}
	if bytes.Contains(payload, secretText) {
		w.fail("promise 5: a state holds a secret access key: %s", payload)
	}
}

// told holds a notice to the truth, as far as nobody has changed it meanwhile.
func (v *witness) told(h *hand, m iamkeys.Message) {
	stage, _ := h.payload["stage"].(string)
	if bytes.Contains([]byte(m.Body()), secretText) {
		v.fail("promise 5: the notice %s holds a secret access key", stage)
	}
	h.execution.notices = append(h.execution.notices, m)
	if h.execution.told[stage].IsZero() {
		h.execution.told[stage] = v.w.Now()
	}
	if h.execution.input["userName"] != user {
		return // the witness sees the keys of one user
	}
	now := v.look()
	for _, line := range keyLines.FindAllStringSubmatch(m.Text, -1) {
		which, id, says := line[1], line[2], line[3]
		if v.touched[id] || v.touched["user"] || !h.execution.alone() || strings.Contains(says, "delivered") && v.touched["secret"] {
			continue
		}
		status := now.status(id)
		so := false
		switch says {
		case "Active", "Active again", "Active, not in use", "Active, in use again":
			so = status == iamkeys.Active
		case "Active, delivered":
			so = status == iamkeys.Active && now.held == id
		case "Active, in use":
			so = status == iamkeys.Active && len(v.used[id]) > 0
		case "Inactive":
			so = status == iamkeys.Inactive
		case "deleted", "not found any more":
			so = status == ""
		case "Inactive, or deleted":
			so = status != iamkeys.Active
		case "not Active or not delivered":
			so = status != iamkeys.Active || now.held != id
		case "unchanged", "as it was", "left as it is", "Active when last seen":
			so = true
		default:
			so = strings.HasSuffix(says, "?") || strings.Contains(says, "as far as is known")
		}
		if !so {
			v.fail("the notice %s says of the %s %s: %q; it is %q and the secret holds %q:\n%s", stage, strings.ToLower(which), id, says, status, now.held, m.Text)
		}
	}
}

// end holds an execution's end to the name that it must have, and what is said
// of the keys to the keys.
func (w *world) end(e *execution) {
	if n := e.run.History.Events; n > maxEvents {
		w.fail("the history has %d events", n)
	}
	if e.failure == nil && e.stopped {
		return
	}
	if e.event != nil {
		w.endExposure(e)
	}
	if e.input["userName"] != user {
		return
	}
	if e.machine == retirement() {
		w.endRetirement(e)
	}
	if e.machine != rotation() {
		return
	}
	polls := 0
	for _, state := range e.run.History.States {
		if state == "Deactivate" {
			polls++
		}
	}
	if polls > e.plan.Polls {
		w.fail("the execution tried %d times to switch the old key off, want %d at most", polls, e.plan.Polls)
	}
	name := ""
	if e.failure != nil {
		name = e.failure.Name
		w.state([]byte(e.failure.Cause))
	}
	if want := e.expected(); name != want {
		w.fail("the execution ended as %q, want %q; it went %v", name, want, e.run.History.States)
	}
	now := w.look()
	untouched := e.alone() && !w.touched["user"] && !w.touched["secret"] && !w.touched[e.old()] && !w.touched[e.newKey]
	switch name {
	case "":
		out, _ := e.output.(map[string]any)
		if out["accessKeyId"] != e.old() || out["newAccessKeyId"] != e.newKey || out["polls"] != float64(e.plan.Polls) || out["soakDays"] != float64(e.plan.SoakDays) || out["userName"] != user {
			w.fail("the output is %v, not the rotation", e.output)
		}
		if untouched && (now.status(e.old()) != "" || now.status(e.newKey) != iamkeys.Active || now.held != e.newKey) {
			w.fail("the rotation of %s to %s has succeeded; they are %q and %q, and the secret holds %q", e.old(), e.newKey, now.status(e.old()), now.status(e.newKey), now.held)
		}
	case "KeyInUse", "NotAdopted":
		before := w.off[e.old()] // by a retirement that had ended
		if untouched && !before.began.After(e.began) && !before.began.IsZero() {
			break
		}
		if untouched && e.lastPoll() == name && (now.status(e.old()) != iamkeys.Active || now.status(e.newKey) != iamkeys.Active) {
			w.fail("the wait ended as %s; old and new key are %q and %q, want both Active", name, now.status(e.old()), now.status(e.newKey))
		}
	case "RolledBack": // said of a moment in which delete found it so
		i := slices.IndexFunc(e.answers, func(a answer) bool { return a.errorName == "KeyActive" })
		if i < 0 || !w.ever(e.answers[i].at.Add(-w.stack.Timeout("delete")-w.ListLag), func(s snapshot) bool { return s.status(e.old()) == iamkeys.Active }) {
			w.fail("the execution ended as RolledBack, and the old key was not Active; it is %q", now.status(e.old()))
		}
	}
	w.endTold(e, map[bool]string{true: "done", false: "failed"}[name == ""])
}

// endTold holds an end to the notice of that stage, which is its last step.
func (w *world) endTold(e *execution, stage string) {
	last := e.answers[len(e.answers)-1]
	if last.function != "notify" || last.stage != stage {
		w.fail("the execution ended without the notice %s; it went %v", stage, e.run.History.States)
	}
	if last.errorName == "" && e.told[stage].IsZero() {
		w.fail("the notice %s was not published, and notify says it was", stage)
	}
}

// alone reports whether no other execution has been at work since this one began.
func (e *execution) alone() bool {
	return !slices.ContainsFunc(e.w.started, func(o *execution) bool { return o != e && !o.began.IsZero() && (!o.ended || o.over.After(e.began)) })
}

// lastPoll is how the last attempt to switch the old key off ended.
func (e *execution) lastPoll() string {
	for _, a := range slices.Backward(e.answers) {
		if a.function == "deactivate" {
			return a.errorName
		}
	}
	return ""
}

// expected gives the name that the execution must end by, from what its
// functions answered: "" for success.
func (e *execution) expected() string {
	final := map[string]string{} // state → error name of its last attempt
	refusal, unexpected := "", ""
	for i, a := range e.answers {
		if a.state == "" {
			continue
		}
		final[a.state] = a.errorName
		retried := i+1 < len(e.answers) && e.answers[i+1].state == a.state && a.function != "deactivate"
		switch {
		case retried:
		case a.function == "deactivate" && (a.errorName == "KeyInUse" || a.errorName == "NotAdopted"):
			refusal = a.errorName
		case (a.function == "deactivate" || a.function == "list") && a.errorName != "":
			unexpected = a.errorName
		}
	}
	for _, state := range []string{"Plan", "Create", "Notify ready", "Notify off", "Notify done"} {
		if name := final[state]; name != "" {
			return name
		}
	}
	if days := e.soakDays(); len(days) > 0 {
		switch name := days[len(days)-1]; name {
		case "KeyActive":
			return "RolledBack"
		case "", "KeyInUse", "NotReplaced", "NotAdopted", "NoSuchEntity", "AccessDenied":
			return name
		default:
			silent := 0
			for _, last := range slices.Backward(days) {
				if last == "" {
					break
				}
				silent++
			}
			if silent < 7 {
				return fmt.Sprintf("something else: only the last %d days had no answer", silent)
			}
			return name
		}
	}
	listed, asked := final["List"]
	switch {
	case final["Deactivate"] == "NotReplaced":
		return "NotReplaced"
	case final["Deactivate"] == "NoSuchEntity" && asked && (listed == "NoSuchEntity" || listed == "" && e.answers[len(e.answers)-1].stage == "done"):
		return listed
	case refusal != "":
		return refusal
	}
	return unexpected
}

// soakDays gives how the last step of each day of the soak was answered.
func (e *execution) soakDays() (days []string) {
	var before answer
	for _, a := range e.answers {
		switch {
		case a.state == "Look" && (before.state != "Look" || a.at.Sub(before.at) > day/2): // no repeat of the same
			days = append(days, a.errorName)
		case a.state == "Look", a.state == "Delete":
			days[len(days)-1] = a.errorName
		}
		before = a
	}
	return days
}

// excuse says what allows that the consumer's key was refused, "" for nothing.
func (v *witness) excuse(c *consumer) string {
	id := c.holds
	record, off := v.off[id]
	switch {
	case v.gone[id] == "person":
		return "somebody took the key away"
	case v.gone[id] != "iamkeys" || !off:
		return ""
	case c.every+iamkeys.LastUsedLag+noted+2*time.Minute < record.quiet && !v.touched[id] && !v.touched["secret"]:
		return "" // it uses the key all the time
	case record.forbids(c.ok, v.w.LastUsedLag):
		return ""
	}
	return "the key was idle for longer than the quiet window"
}

// fail reports what is wrong, once with the story of the run.
func (v *witness) fail(format string, args ...any) {
	v.t.Helper()
	if v.w.story != nil {
		format += "\n%s"
		args = append(args, strings.Join(v.w.story, "\n"))
		v.w.story = nil
	}
	v.t.Errorf(format, args...)
}

// conclude holds the account to the promises when all is over.
func (w *world) conclude() {
	w.settle()
	now := w.look()
	for _, c := range w.consumers {
		for _, r := range c.refuse {
			if r.excuse == "" {
				w.fail("promise 2: a consumer that uses its key every %v was refused with %s at %v", c.every, r.key, r.at.Sub(w.history[0].at))
			}
		}
	}
	// A retirement takes the only key away, if nobody uses it.
	person := len(w.touched) > 0 || slices.ContainsFunc(w.started, func(e *execution) bool { return e.machine == retirement() && !e.off.IsZero() })
	works := slices.ContainsFunc(now.keys, func(k iamkeys.AccessKey) bool { return k.Status == iamkeys.Active })
	if !works && !person {
		w.fail("the user has no working key: %v", now.keys)
	}
	if now.held != "" && now.status(now.held) != iamkeys.Active && !person {
		w.fail("the secret holds %s, which is %q", now.held, now.status(now.held))
	}
	for _, k := range w.undelivered() {
		if !w.spokenOf(k) {
			w.fail("promise 4: %s is undelivered, and no error and no notice speaks of it", k)
		}
	}
	if i := bytes.Index(w.log.Bytes(), secretText); i >= 0 {
		w.fail("promise 5: a log holds a secret access key: %s", w.log.Bytes()[max(0, i-200):i+40])
	}
}

// undelivered gives the keys that creates have left, and the secret never held.
func (w *world) undelivered() []string {
	var left []string
	for _, k := range w.look().keys {
		if w.made[k.AccessKeyID] != nil && !w.holding[k.AccessKeyID] {
			left = append(left, k.AccessKeyID)
		}
	}
	return left
}

// spokenOf reports whether an error or a notice names the key, or says that a key may be
// left over: of a create that died nobody knows more, but CloudTrail by its nonce, which
// OrphanedKey says ("one of these or another"; the user may have another name by now).
func (w *world) spokenOf(id string) bool {
	for _, e := range w.started {
		if e.failure != nil && (strings.Contains(e.failure.Cause, id) || e.failure.Name == "OrphanedKey" && strings.Contains(e.failure.Cause, "or another")) {
			return true
		}
		for _, m := range e.notices {
			if strings.Contains(m.Text, id) || strings.Contains(strings.Join(strings.Fields(m.Text), " "), "a key may be left over") {
				return true
			}
		}
		if e.stopped || e.count("notify failed") > len(e.notices) { // it was stopped, or could tell nobody
			return true
		}
	}
	return false
}
