package iamkeys

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// RetireIAM is what [Retire] asks of IAM.
type RetireIAM interface {
	GetUser
	ListAccessKeys
	GetAccessKeyLastUsed
	PowerIAM
}

// Retire answers, from live data, whether an unused key is (still) to be retired, and
// with which numbers. It changes nothing: a retirement's workflow asks it before each
// step, so that whatever speaks against it stops the next one.
type Retire struct {
	IAM            RetireIAM
	SecretsManager DescribeSecret
	StepFunctions  ExecutionsOfUsers
	Rule           RetirementRule
	OwnerTag       string
	Apply          bool // retirements may be carried out that no person insists on
	NoticeDays     int  // from the first warning to the day on which the key may be switched off
	SoakDays       int  // how long it stays Inactive before it is deleted
	ActDays        ActDays
	Zone           *time.Location // of ActDays
	Now            func() time.Time
}

// finalDays is how long before a key may be switched off its last warning is sent.
const finalDays = 3

// RetirePrefix is what a retirement's name has before its key's ID; a rotation's has nothing.
const RetirePrefix = "retire-"

// A RetireStage is the step of a retirement that asks.
type RetireStage string

// The stages.
const (
	RetireWarning RetireStage = "warning" // before the first warning
	RetireFinal   RetireStage = "final"   // before the last one
	RetireOff     RetireStage = "off"     // before the key is switched off
	RetireDelete  RetireStage = "delete"  // before it is deleted
)

// RetireInput is what Retire takes.
type RetireInput struct {
	UserName    string         `json:"userName"`
	AccessKeyID string         `json:"accessKeyId"`
	Stage       RetireStage    `json:"stage"`               // warning, final, off or delete
	Insist      bool           `json:"insist,omitempty"`    // a person started it: RetirementMode does not count
	Execution   *ThisExecution `json:"execution,omitempty"` // the retirement's own; without it every unfinished one of the user goes first
}

// RetireOutput is what Retire returns: the retirement, or that the key is gone already.
type RetireOutput struct {
	Gone bool `json:"gone,omitempty"` // then alone
	*Retirement
}

// A Retirement is one unused key on its way out, with every number resolved.
type Retirement struct {
	UserName      string  `json:"userName"`
	AccessKeyID   string  `json:"accessKeyId"`
	Owner         *string `json:"owner"`
	IdleDays      int     `json:"idleDays"`
	Power         Power   `json:"power"`
	QuietHours    int     `json:"quietHours"`    // how long it must be idle before it is switched off, hours
	NoticeSeconds int     `json:"noticeSeconds"` // from the first warning to the last one, seconds
	FinalSeconds  int     `json:"finalSeconds"`  // from the last one to the switch-off, seconds
	WaitSeconds   int     `json:"waitSeconds"`   // at off: until the next day to act, seconds; ask again then
	SoakDays      int     `json:"soakDays"`      // how long it stays Inactive before it is deleted, days
}

// Validate refuses a malformed input with InvalidInput.
func (in RetireInput) Validate() error {
	if err := checkUserKey(in.UserName, in.AccessKeyID); err != nil {
		return err
	}
	switch in.Stage {
	case RetireWarning, RetireFinal, RetireOff, RetireDelete:
		if err := in.Execution.check(); err != nil {
			return err
		}
		return in.Execution.checkName(RetirePrefix, in.AccessKeyID)
	}
	return Refuse(InvalidInput, "stage must be %s, %s, %s or %s; got %s.", RetireWarning, RetireFinal, RetireOff, RetireDelete, Quoted(string(in.Stage)))
}

// Run answers for in.Stage. It refuses, in this order: an unknown user (NoSuchEntity);
// at delete a key that is not off (KeyActive); Protected; KeyExempt; RetirementOff; and
// before delete another execution that goes first (InProgress) and a key that is used,
// off, or somebody's replacement (KeyInUse). What cannot be read is an error.
func (o Retire) Run(ctx context.Context, in RetireInput) (RetireOutput, error) {
	var out RetireOutput
	user, err := o.IAM.GetUser(ctx, in.UserName)
	if err != nil {
		return out, err
	}
	keys, err := o.IAM.ListAccessKeys(ctx, user.UserName)
	if err != nil {
		return out, err
	}
	key, listed := find(keys, in.AccessKeyID)
	if !listed {
		err := gone(ctx, o.IAM, user.UserName, in.AccessKeyID)
		out.Gone = err == nil
		return out, err
	}
	if in.Stage == RetireDelete {
		if key.Status != Inactive && key.Status != Expired {
			return out, Refuse(KeyActive, "Access key %s of user %s is %s, so it is not deleted: somebody has reactivated it.", key.AccessKeyID, user.UserName, key.Status)
		}
	} else if err := key.Known(); err != nil {
		return out, err
	}
	now := o.Now()
	if err := o.Rule.Keeps(user, now); err != nil {
		return out, err
	}
	if !o.Apply && !in.Insist {
		return out, Refuse(RetirementOff, "Retirements are not carried out (parameter RetirementMode is not apply), so access key %s of user %s is kept. Set it to apply, or start the retirement with insist true.", key.AccessKeyID, user.UserName)
	}
	if in.Stage != RetireDelete {
		if err := giveWay(ctx, o.StepFunctions, user.UserName, keys, RetirementWorkflow, in.Execution, in.AccessKeyID); err != nil {
			return out, err
		}
	}
	used, err := o.IAM.GetAccessKeyLastUsed(ctx, in.AccessKeyID)
	if err != nil {
		return out, err
	}
	if in.Stage != RetireDelete {
		if err := o.Rule.InUse(key, used, now); err != nil {
			return out, err
		}
		if err := o.Rule.Replacement(ctx, o.SecretsManager, user, keys, key); err != nil {
			return out, err
		}
	}
	r := &Retirement{
		UserName: user.UserName, AccessKeyID: key.AccessKeyID, IdleDays: Days(now.Sub(IdleSince(key, used))), Power: withPolicies(ctx, o.IAM, user).Power(),
		QuietHours: o.Rule.AfterDays * 24, NoticeSeconds: (o.NoticeDays - finalDays) * 24 * 3600, FinalSeconds: finalDays * 24 * 3600, SoakDays: o.SoakDays,
	}
	if owner, ok := user.Tag(o.OwnerTag); ok {
		r.Owner = Optional(owner)
	}
	if in.Stage == RetireOff {
		r.WaitSeconds = o.ActDays.wait(now.In(o.Zone))
	}
	out.Retirement = r
	return out, nil
}

// A RetirementRule says which keys are to be retired, by what is known of one user and
// key. Whoever nominates keys goes by it, too.
type RetirementRule struct {
	UserPath  string // users of other paths are not changed
	AfterDays int    // how long a key must be idle, on top of what IAM may take to show a use
	Secrets   SecretNames
}

// Keeps refuses with Protected or KeyExempt when the user's keys are kept whether they
// are used or not.
func (r RetirementRule) Keeps(user User, now time.Time) error {
	switch e := user.Exemption(now); {
	case user.Protected():
		return Refuse(Protected, "User %s has the tag %s, so its keys are kept.", user.UserName, TagProtect)
	case !user.Under(r.UserPath):
		return Refuse(Protected, "User %s is not under %s (parameter UserPath), so its keys are kept.", user.UserName, r.UserPath)
	case e != nil && e.Invalid == nil:
		return Refuse(KeyExempt, "User %s is exempt until %s by its tags, so its keys are kept. The reason given is %s.", user.UserName, e.Until, Quoted(e.Reason))
	}
	return nil
}

// InUse refuses with KeyInUse a key that is not Active, or was used too lately.
func (r RetirementRule) InUse(key AccessKey, used LastUsed, now time.Time) error {
	if key.Status != Active {
		return Refuse(KeyInUse, "Access key %s of user %s is %s already, so there is nothing to retire: who switched it off decides what becomes of it.", key.AccessKeyID, key.UserName, key.Status)
	}
	if idle := now.Sub(IdleSince(key, used)); idle < DayCount(r.AfterDays)+LastUsedLag {
		return Refuse(KeyInUse, "Access key %s of user %s was %s, created %s: idle for %d days, less than the %d days (parameter RetireAfterDays) and the %d h that IAM may take to show a use. It is kept.",
			key.AccessKeyID, key.UserName, used, key.CreateDate.UTC().Format(time.RFC3339), Days(idle), r.AfterDays, LastUsedLag/time.Hour)
	}
	return nil
}

// Replacement refuses with KeyInUse a key that the user's secret delivers while the user
// has another Active one: it is replacing that one. Without another one no secret is read.
func (r RetirementRule) Replacement(ctx context.Context, secrets DescribeSecret, user User, keys []AccessKey, key AccessKey) error {
	if len(activeKeys(keys)) < 2 {
		return nil
	}
	secretID, _, err := r.Secrets.Of(user, "")
	if err != nil {
		return err
	}
	secret, err := secrets.DescribeSecret(ctx, secretID)
	if err != nil && CodeOf(err) != NoSuchEntity {
		return err
	}
	if err == nil && secret.delivers(user.UserName, key.AccessKeyID) {
		return Refuse(KeyInUse, "Access key %s of user %s is the one that secret %s delivers, while the user has another Active key: it replaces that one, so it is kept. Keys: %s.", key.AccessKeyID, user.UserName, secretID, describe(keys))
	}
	return nil
}

// ActDays are the days of the week on which keys may be switched off, by
// [time.Weekday]: somebody should be there to find out.
type ActDays [7]bool

// ParseActDays reads days as in cron: weekday names, "," between them, and "-" for
// ranges, which may go round the weekend.
func ParseActDays(text string) (days ActDays, err error) {
	names := map[string]int{"SUN": 0, "MON": 1, "TUE": 2, "WED": 3, "THU": 4, "FRI": 5, "SAT": 6}
	for part := range strings.SplitSeq(strings.ToUpper(text), ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, ok := names[first]
		to, also := names[last]
		if !ok || !also {
			return days, fmt.Errorf("%q is no day of the week or range of them, such as MON-THU", part)
		}
		for d := from; ; d = (d + 1) % 7 {
			days[d] = true
			if d == to {
				break
			}
		}
	}
	return days, nil
}

// wait gives how many seconds it is until the next of the days begins, 0 on one of
// them. There is one at least.
func (days ActDays) wait(now time.Time) int {
	for ahead := range 7 {
		if days[(int(now.Weekday())+ahead)%7] {
			if ahead == 0 {
				return 0
			}
			begins := time.Date(now.Year(), now.Month(), now.Day()+ahead, 0, 0, 0, 0, now.Location())
			return int((begins.Sub(now) + time.Second - 1) / time.Second)
		}
	}
	return 0
}
