package audit

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"iamkeys/pkg/iamkeys"
)

// A Nominator picks the keys whose turn it is, of a whole account: for rotation [Due],
// for retirement [FindUnused]. It starts nothing.
type Nominator struct {
	Inventory      TakeInventory
	StepFunctions  iamkeys.ExecutionsOfUsers
	SecretsManager iamkeys.DescribeSecret
	Secrets        iamkeys.SecretNames
	OwnerTag       string
	Most           int // nominated at most, when the input names no limit
	Now            func() time.Time
}

// maxLimit is how many an input may ask for.
const maxLimit = 50

// checkLimit refuses a malformed limit with InvalidInput.
func checkLimit(limit *int, of string) error {
	if limit != nil && (*limit < 1 || *limit > maxLimit) {
		return iamkeys.Refuse(iamkeys.InvalidInput, "limit must be 1 to %d %s; got %d.", maxLimit, of, *limit)
	}
	return nil
}

// A SkipReason says why a user or key is not nominated.
type SkipReason string

// The reasons.
const (
	SkipExposed    SkipReason = "exposed"
	SkipExempt     SkipReason = "exempt"
	SkipPath       SkipReason = "outsideUserPath"
	SkipProtected  SkipReason = "protected"
	SkipUnclear    SkipReason = "unclearTag"
	SkipUnused     SkipReason = "unused"
	SkipDelivered  SkipReason = "delivered"
	SkipNoSlot     SkipReason = "noFreeSlot"
	SkipMalformed  SkipReason = SkipReason(iamkeys.NameMalformed)
	SkipElsewhere  SkipReason = SkipReason(iamkeys.NameElsewhere)
	SkipPrefix     SkipReason = SkipReason(iamkeys.NameOutsidePrefix)
	SkipNotByTag   SkipReason = SkipReason(iamkeys.NameNotByTag)
	SkipRotating   SkipReason = "rotating"
	SkipRetiring   SkipReason = "retiring"
	SkipKept       SkipReason = "kept"
	SkipRolledBack SkipReason = "rolledBack"
	SkipFailed     SkipReason = "failed"
	SkipUnexamined SkipReason = "unexamined"
	SkipLimit      SkipReason = "overLimit"
)

// SkipReasons says of each reason what it means and what a person can do about it.
var SkipReasons = []struct {
	Reason SkipReason
	Means  string
}{
	{SkipExposed, "AWS found a key of the user in public: switch it off now, by hand, and look through CloudTrail for what it did."},
	{SkipExempt, "The exemption in the user's tags holds."},
	{SkipPath, "The user is not under the stack's parameter UserPath, so its keys are not changed."},
	{SkipProtected, "The user has the tag " + iamkeys.TagProtect + ", whatever its value: take the tag off, or leave its keys to a person."},
	{SkipUnclear, "The tag " + iamkeys.TagRotate + " says neither on nor off: set one of them."},
	{SkipUnused, "Nobody uses the key: deactivate it by hand, or it is retired from the day that is named."},
	{SkipDelivered, "The user's secret delivers the key, and the user has another Active one, which it replaces."},
	{SkipNoSlot, "The user has two keys: deactivate and delete the one that nobody uses."},
	{SkipMalformed, "The tag " + iamkeys.TagSecret + " is neither the name nor the full ARN of a secret; a name that ends in a hyphen and six characters must be given as the ARN."},
	{SkipElsewhere, "The tag " + iamkeys.TagSecret + " names a secret of another account or Region: name one of these."},
	{SkipPrefix, "The tag " + iamkeys.TagSecret + " names a secret that is not under the stack's parameter SecretPrefix."},
	{SkipNotByTag, "The tag " + iamkeys.TagSecret + " names a secret that neither is the user's own by its name nor delivers a key of the user: rotate once by hand with secretId, and the tag holds from then on."},
	{SkipRotating, "A rotation of the user, or a create on its secret, is at work."},
	{SkipRetiring, "A key of the user is being retired."},
	{SkipKept, "Its retirement ended with the key kept; it can be named again 90 days later."},
	{SkipRolledBack, "Somebody reactivated or used the key while it was being retired; it can be named again 90 days later."},
	{SkipFailed, "An execution for the key failed or was stopped: look at its notice, and start another one by hand, or wait for 90 days."},
	{SkipUnexamined, "The user, the key or its secret could not be read, so nothing is known of it."},
	{SkipLimit, "Its turn comes in a later run."},
}

// A way is what keys are nominated for: rotation or retirement.
type way struct {
	workflow iamkeys.Workflow
	prefix   string // of its executions' names, before the key's ID

	// candidates gives the keys of a user that the way is about; one without an ID
	// stands for keys that could not be read.
	candidates func(u UserFacts) []KeyFacts
	order      func(a, b nominee) int // who comes first

	// vet gives the reason against it in what is known of user and key.
	vet func(n nominee) (SkipReason, *time.Time)
	// ended gives the reason in an execution that has ended and left the key.
	ended func(e iamkeys.Execution) SkipReason
	// inSecret gives the reason in the user's secret, which it reads.
	inSecret func(ctx context.Context, n nominee) (SkipReason, error)

	onceAUser bool // one key a user
}

// A nominee is a key that a way is about.
type nominee struct {
	user     UserFacts
	key      KeyFacts
	secretID string     // the user's secret
	unproved bool       // which a tag names, and which must be proved to be the user's
	fault    error      // why the user has none
	reason   SkipReason // "" when it is nominated
	date     *time.Time // of the reason
}

func (n nominee) keys() (keys []iamkeys.AccessKey) {
	for _, k := range n.user.Keys {
		keys = append(keys, k.AccessKey)
	}
	return keys
}

// owner is the user's, cut: the output is a state of a workflow.
func (n nominee) owner(tag string) *string {
	const most = 128 // bytes
	owner, _ := n.user.Tag(tag)
	return iamkeys.Optional(strings.ToValidUTF8(owner[:min(len(owner), most)], ""))
}

// nominate gives the candidates in their order; those without a reason against it are
// nominated. It fails with InventoryUnavailable when nothing is known of the account.
func (o Nominator) nominate(ctx context.Context, w way, limit *int) (all []nominee, coverage Coverage, err error) {
	inv, err := o.Inventory.Run(ctx, FromCredentialReport, func(u UserFacts) bool { return len(w.candidates(u)) > 0 })
	if err != nil {
		return nil, coverage, err
	}
	coverage = inv.coverage()
	if coverage.Users > 0 && coverage.UsersExamined == 0 {
		return nil, coverage, iamkeys.Refuse(iamkeys.InventoryUnavailable, "None of the account's %d users could be examined, so nobody was nominated. The log has the cause.", coverage.Users)
	}
	for _, u := range inv.Users {
		for _, k := range w.candidates(u) {
			n := nominee{user: u, key: k}
			n.secretID, n.unproved, n.fault = o.Secrets.Of(u.User, "")
			all = append(all, n)
		}
	}
	if len(all) == 0 {
		return nil, coverage, nil
	}
	slices.SortStableFunc(all, w.order)
	b := beginnings{now: o.Now(), most: o.Most, names: map[string]bool{}, users: map[string]bool{}, unread: map[string]bool{}}
	if limit != nil {
		b.most = *limit
	}
	executions := map[iamkeys.Workflow][]iamkeys.Execution{}
	for _, workflow := range workflows {
		if executions[workflow], err = o.StepFunctions.ListExecutions(ctx, workflow, "", time.Time{}); err != nil {
			return nil, coverage, err
		}
	}
	b.count(executions[w.workflow]...)
	for i := range all {
		if err := o.judge(ctx, w, &all[i], executions, &b); err != nil {
			return nil, coverage, err
		}
	}
	coverage.without(b.unread)
	return all, coverage, nil
}

// without takes users and keys off what was examined, one key each.
func (c *Coverage) without(users map[string]bool) {
	c.UsersExamined, c.KeysExamined, c.Complete = c.UsersExamined-len(users), c.KeysExamined-len(users), c.Complete && len(users) == 0
}

// judge finds the reason against the nominee, if there is one.
func (o Nominator) judge(ctx context.Context, w way, n *nominee, executions map[iamkeys.Workflow][]iamkeys.Execution, b *beginnings) error {
	if n.reason, n.date = w.vet(*n); n.reason != "" && n.reason != SkipNoSlot { // a rotation at work takes the second place
		return nil
	}
	full := w.onceAUser && b.users[n.user.UserName]
	own, others := n.concerned(w, executions)
	if len(others) > 0 {
		n.reason, n.date = at(others[0])
		return nil
	}
	if !full && !b.full() {
		// The list may be behind: this one is asked for by its name, too.
		e, err := o.StepFunctions.DescribeExecution(ctx, w.workflow, w.prefix+n.key.AccessKeyID)
		switch {
		case err == nil:
			b.count(e)
			own = append(own, e)
		case iamkeys.CodeOf(err) != iamkeys.NoSuchEntity:
			return err
		}
	}
	if len(own) > 0 {
		latest := slices.MaxFunc(own, func(a, b iamkeys.Execution) int { return a.Started.Compare(b.Started) })
		if !latest.Unfinished() && latest.Output == nil && latest.Status == iamkeys.ExecutionSucceeded { // from the list
			var err error
			if latest, err = o.StepFunctions.DescribeExecution(ctx, w.workflow, latest.Name); err != nil {
				return err
			}
		}
		if n.reason, n.date = at(latest); !latest.Unfinished() {
			n.reason, n.date = w.ended(latest), iamkeys.Instant(latest.Stopped)
		}
		return nil
	}
	switch {
	case n.reason != "":
	case full || b.full():
		n.reason = SkipLimit
	default:
		var err error
		switch n.reason, err = w.inSecret(ctx, *n); {
		case err != nil:
			o.Inventory.Log.WarnContext(ctx, "secret not read", "userName", n.user.UserName, "error", err.Error())
			n.reason = SkipUnexamined
			b.unread[n.user.UserName] = true
		case n.reason == "":
			b.nominated++
			b.users[n.user.UserName] = true
		}
	}
	return nil
}

// beginnings counts what begins: a limit holds what is nominated and what began lately,
// since a schedule's event may be delivered twice.
type beginnings struct {
	now       time.Time
	most      int
	names     map[string]bool // of executions that began lately
	users     map[string]bool // that have a key nominated
	unread    map[string]bool // whose secret could not be read
	nominated int
}

// lately is how far back an execution counts. The schedule's events are an hour old at
// most, and its runs a day apart or more.
const lately = 20 * time.Hour

func (b *beginnings) count(executions ...iamkeys.Execution) {
	for _, e := range executions {
		if b.now.Sub(e.Started) < lately {
			b.names[e.Name] = true
		}
	}
}

func (b *beginnings) full() bool { return b.nominated+len(b.names) >= b.most }

// workflows are those whose executions change a user's keys over days.
var workflows = []iamkeys.Workflow{iamkeys.RotationWorkflow, iamkeys.RetirementWorkflow}

// concerned gives the way's own executions for the nominee's key, and the unfinished
// ones of both workflows that change another key of the user. Retirements of a user's
// keys do not mind each other.
func (n nominee) concerned(w way, executions map[iamkeys.Workflow][]iamkeys.Execution) (own, others []iamkeys.Execution) {
	for workflow, all := range executions {
		for _, e := range all {
			id, _, _ := strings.Cut(strings.TrimPrefix(e.Name, iamkeys.RetirePrefix), "-")
			switch ofUser := slices.ContainsFunc(n.user.Keys, func(k KeyFacts) bool { return k.AccessKeyID == id }); {
			case workflow == w.workflow && id == n.key.AccessKeyID:
				own = append(own, e)
			case ofUser && e.Unfinished() && (workflow == iamkeys.RotationWorkflow || w.workflow == iamkeys.RotationWorkflow):
				others = append(others, e)
			}
		}
	}
	return own, others
}

// at says what an unfinished execution is doing, and since when.
func at(e iamkeys.Execution) (SkipReason, *time.Time) {
	if e.Workflow == iamkeys.RetirementWorkflow {
		return SkipRetiring, iamkeys.Instant(e.Started)
	}
	return SkipRotating, iamkeys.Instant(e.Started)
}

// maxBytes is what an output may take, so that a workflow's states that hold it stay
// below 32 KiB.
const maxBytes = 30 << 10

// fit drops entries, by drop, until the output is small enough.
func fit(out any, drop func() bool) {
	for {
		content, err := json.Marshal(out)
		if err != nil || len(content) <= maxBytes || !drop() {
			return
		}
	}
}
