package audit

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"iamkeys/pkg/iamkeys"
)

// Accounts says which accounts of the organization a run examines, and stores the
// list, from which the workflow makes one audit for each. A list that is stored
// already is used again, so that every repeat of a run is about the same accounts.
type Accounts struct {
	Organizations iamkeys.ListAccounts
	S3            S3
	Account       string // the stack's own, twelve digits
	Bucket        string // name of the report bucket
	Exclude       []string
	AtOnce        int // audits at a time
	Log           *slog.Logger
}

// AccountsInput is what Accounts takes: the start of the workflow's execution, with
// the schedule's time if it was the schedule that started it, or an earlier run.
type AccountsInput struct {
	Started *time.Time `json:"started,omitempty"`
	Time    *time.Time `json:"time,omitempty"`
	RunID   string     `json:"runId,omitempty"`
	Day     string     `json:"day,omitempty"`
}

// AccountsOutput is what Accounts returns, and Merge takes. Skipped names at most
// 100 accounts; SkippedCounts counts them all, by reason.
type AccountsOutput struct {
	RunID         string              `json:"runId"`
	Day           string              `json:"day"`
	Accounts      int                 `json:"accounts"`
	Skipped       []SkippedAccount    `json:"skipped"`
	SkippedCounts map[NotExamined]int `json:"skippedCounts"`
	List          ListLocation        `json:"list"`
	AtOnce        int                 `json:"atOnce"`
}

// ListLocation says where the list of a run's accounts is.
type ListLocation struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
}

// A Member is one account of a run, as it stands in the list: what the audit of it
// gets as its input.
type Member struct {
	Account string `json:"account"`
	Name    string `json:"name"`
	RunID   string `json:"runId"`
	Day     string `json:"day"`
}

// A SkippedAccount is an account of the organization that a run does not examine.
type SkippedAccount struct {
	Account string      `json:"account"`
	Name    string      `json:"name"`
	Reason  NotExamined `json:"reason"`
}

// NotExamined says why a run did not examine an account.
type NotExamined string

// The reasons of accounts that are skipped: nobody tries to examine these.
const (
	Excluded   NotExamined = "excluded"   // named by the parameter ExcludeAccounts
	Suspended  NotExamined = "suspended"  // by AWS
	Closing    NotExamined = "closing"    // somebody closes it
	Closed     NotExamined = "closed"     // nothing in it works any more
	Activating NotExamined = "activating" // it is being made
	Left       NotExamined = "left"       // missing from the organization for two runs
)

// skipStates are the states in which an account is not examined. Active ones are,
// those without a state, and those in a state that nobody knows yet.
// https://docs.aws.amazon.com/organizations/latest/APIReference/API_Account.html
var skipStates = map[string]NotExamined{"SUSPENDED": Suspended, "PENDING_CLOSURE": Closing, "CLOSED": Closed, "PENDING_ACTIVATION": Activating}

// The output is a state of the workflow and must stay below 32 KiB.
const (
	maxState           = 30 << 10 // bytes, written as JSON, which may take six for one of a name
	maxSkippedAccounts = 100
	maxAccountName     = 128 // bytes; Organizations' own limit is 50 characters
)

// Validate refuses a malformed input with InvalidInput.
func (in AccountsInput) Validate() error {
	switch again := in.RunID != "" || in.Day != ""; {
	case again && in.Time != nil:
		return iamkeys.Refuse(iamkeys.InvalidInput, "time goes without runId and day: it is the schedule's, which starts a new run.")
	case again:
		return checkRun(in.RunID, in.Day)
	case in.Started == nil && in.Time == nil:
		return iamkeys.Refuse(iamkeys.InvalidInput, "started must be the start of the workflow's execution, which the workflow adds; or give runId and day of an earlier run.")
	}
	for name, t := range map[string]*time.Time{"started": in.Started, "time": in.Time} {
		if t != nil && (t.Year() < 2010 || t.Year() > 2200) {
			return iamkeys.Refuse(iamkeys.InvalidInput, "%s must be a time such as 2026-01-31T00:00:00Z, from 2010 to 2200; got %s.", name, t.Format(time.RFC3339))
		}
	}
	return nil
}

var runIDs = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

const runDay = "2006-01-02" // how a run's day is written

// checkRun refuses what is not a run's ID and day: both become part of object keys.
func checkRun(runID, day string) error {
	if !runIDs.MatchString(runID) {
		return iamkeys.Refuse(iamkeys.InvalidInput, "runId must be 1 to 64 letters, digits, - and _, such as 20260131T060000Z; got %s.", iamkeys.Quoted(runID))
	}
	if at, err := time.Parse(runDay, day); err != nil || at.Format(runDay) != day {
		return iamkeys.Refuse(iamkeys.InvalidInput, "day must be the day of the run, such as 2026-01-31; got %s.", iamkeys.Quoted(day))
	}
	return nil
}

var accountIDs = regexp.MustCompile(`^\d{12}$`)

func checkAccount(account string) error {
	if !accountIDs.MatchString(account) {
		return iamkeys.Refuse(iamkeys.InvalidInput, "account must be an account's ID, 12 digits; got %s.", iamkeys.Quoted(account))
	}
	return nil
}

// Run names the run and its accounts. Its errors are InventoryUnavailable (the
// organization's accounts could not be listed, or none is left to examine),
// StoreFailed, and InvalidInput for an earlier run that has no list, or whose list
// is not as it was stored.
func (o Accounts) Run(ctx context.Context, in AccountsInput) (AccountsOutput, error) {
	runID, day := in.RunID, in.Day
	if runID == "" {
		at := in.Started
		if in.Time != nil {
			at = in.Time
		}
		runID, day = at.UTC().Format(runTime), at.UTC().Format(runDay)
	}
	list, skipped, err := readList(ctx, o.S3, o.Bucket, runID, day)
	switch {
	case iamkeys.CodeOf(err) != iamkeys.NoSuchEntity:
	case in.RunID != "":
		err = iamkeys.Refuse(iamkeys.InvalidInput, "runId and day name no earlier run: there is no list of accounts at s3://%s/%s. Look for the run's files under that day, or start without both.", o.Bucket, listKey(runID, day))
	default:
		list, skipped, err = o.list(ctx, runID, day)
	}
	if err != nil {
		return AccountsOutput{}, err
	}
	out := AccountsOutput{
		RunID: runID, Day: day, Accounts: len(list), Skipped: skipped[:min(len(skipped), maxSkippedAccounts)], SkippedCounts: map[NotExamined]int{},
		List: ListLocation{o.Bucket, listKey(runID, day)}, AtOnce: o.AtOnce,
	}
	for _, s := range skipped {
		out.SkippedCounts[s.Reason]++
	}
	for content, err := json.Marshal(out); err == nil && len(content) > maxState; content, err = json.Marshal(out) {
		out.Skipped = out.Skipped[:len(out.Skipped)-1]
	}
	return out, nil
}

// runTime is how a run's ID is made of its time.
const runTime = "20060102T150405Z"

// organizationPrefix is what the objects of an organization's run begin with.
func organizationPrefix(runID, day string) string {
	at, _ := time.Parse(runDay, day) // checked by checkRun
	return "reports/organization/" + at.Format("2006/01/02/") + runID
}

func listKey(runID, day string) string { return organizationPrefix(runID, day) + ".accounts.json" }

func skippedKey(runID, day string) string { return organizationPrefix(runID, day) + ".skipped.json" }

// list asks Organizations, and stores what it says: the skipped accounts first, then
// the list, with which both are stored. Of two that do so at the same time the first
// one's list counts; an account that the two saw in different states may then be in
// neither object, and is named as missing.
func (o Accounts) list(ctx context.Context, runID, day string) ([]Member, []SkippedAccount, error) {
	accounts, err := o.Organizations.ListAccounts(ctx)
	switch code := iamkeys.CodeOf(err); {
	case code == iamkeys.AccessDenied:
		return nil, nil, iamkeys.Failed(iamkeys.InventoryUnavailable, err, "The accounts of the organization could not be listed: account %[1]s may not call organizations:ListAccounts. In the management account grant it, and nothing else, by "+
			`aws organizations put-resource-policy --content '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"%[1]s"},"Action":"organizations:ListAccounts","Resource":"*"}]}' (add the statement to a policy that is there), `+
			"or make the account a delegated administrator, such as by aws organizations register-delegated-administrator --account-id %[1]s --service-principal access-analyzer.amazonaws.com.", o.Account)
	case err != nil:
		return nil, nil, iamkeys.Failed(iamkeys.InventoryUnavailable, err, "The accounts of the organization could not be listed (%s), so none was examined. Start the workflow again.", code)
	}
	slices.SortFunc(accounts, func(a, b iamkeys.Account) int { return cmp.Compare(a.ID, b.ID) })
	accounts = slices.CompactFunc(accounts, func(a, b iamkeys.Account) bool { return a.ID == b.ID })
	list, skipped := []Member{}, []SkippedAccount{}
	for _, a := range accounts {
		name, reason := shortened(a.Name), skipStates[a.State]
		if slices.Contains(o.Exclude, a.ID) {
			reason = Excluded
		}
		if reason != "" {
			skipped = append(skipped, SkippedAccount{a.ID, name, reason})
			continue
		}
		list = append(list, Member{a.ID, name, runID, day})
	}
	if len(list) == 0 {
		return nil, nil, iamkeys.Refuse(iamkeys.InventoryUnavailable, "None of the organization's %d accounts is left to examine: every one is excluded by the parameter ExcludeAccounts, or not active.", len(accounts))
	}
	if err := o.put(ctx, skippedKey(runID, day), skipped, nil); err != nil {
		return nil, nil, err
	}
	none := ""
	err = o.put(ctx, listKey(runID, day), list, &none)
	if iamkeys.CodeOf(err) == iamkeys.InProgress { // another one was faster, or this one's first attempt
		return readList(ctx, o.S3, o.Bucket, runID, day)
	}
	if err != nil {
		return nil, nil, err
	}
	o.Log.InfoContext(ctx, "stored the run's accounts", "runId", runID, "accounts", len(list), "skipped", len(skipped))
	return list, skipped, nil
}

// shortened cuts a name that is longer than any account's.
func shortened(name string) string { return cut(name, maxAccountName) }

// cut cuts text to that many bytes.
func cut(s string, most int) string { return strings.ToValidUTF8(s[:min(len(s), most)], "") }

func (o Accounts) put(ctx context.Context, key string, v any, replaces *string) error {
	content, err := json.Marshal(v)
	if err == nil {
		err = o.S3.PutObject(ctx, key, "application/json", bytes.NewReader(content), replaces)
	}
	if err == nil || replaces != nil && iamkeys.CodeOf(err) == iamkeys.InProgress {
		return err
	}
	return iamkeys.Failed(iamkeys.StoreFailed, err, "The run's list of accounts could not be stored at %s (%s), so no account was examined. Start the workflow again.", key, iamkeys.CodeOf(err))
}

// readList reads a run's stored list and its skipped accounts; NoSuchEntity when no
// list is stored. A list in which an entry is not of that run or is there twice is
// InvalidInput, naming the field: somebody changed it.
func readList(ctx context.Context, s3 iamkeys.GetObject, bucket, runID, day string) (list []Member, skipped []SkippedAccount, err error) {
	key := listKey(runID, day)
	if err := readJSON(ctx, s3, key, &list); err != nil {
		return nil, nil, err
	}
	if err := checkList(list, runID, day); err != nil {
		return nil, nil, iamkeys.Refuse(iamkeys.InvalidInput, "The list of accounts at s3://%s/%s is not as it was stored: %v. Move it away, and start a new run.", bucket, key, err)
	}
	if err := readJSON(ctx, s3, skippedKey(runID, day), &skipped); err != nil {
		return nil, nil, iamkeys.Failed(iamkeys.StoreFailed, err, "The list of accounts of run %s is stored, but not which ones are skipped (%s at %s). Start a new run.", runID, iamkeys.CodeOf(err), skippedKey(runID, day))
	}
	if err := checkSkipped(skipped); err != nil {
		return nil, nil, iamkeys.Refuse(iamkeys.InvalidInput, "The skipped accounts at s3://%s/%s are not as they were stored: %v. Move the file away, and start a new run.", bucket, skippedKey(runID, day), err)
	}
	listed := map[string]bool{}
	for _, m := range list {
		listed[m.Account] = true
	}
	return list, slices.DeleteFunc(skipped, func(s SkippedAccount) bool { return listed[s.Account] }), nil
}

// checkSkipped refuses what no run skips: an account closed by a stranger's hand would
// have its findings resolved.
func checkSkipped(skipped []SkippedAccount) error {
	seen := map[string]bool{}
	for i, s := range skipped {
		switch {
		case !accountIDs.MatchString(s.Account):
			return fmt.Errorf("[%d].account is %s", i, iamkeys.Quoted(s.Account))
		case seen[s.Account]:
			return fmt.Errorf("[%d].account, %s, is there twice", i, s.Account)
		case !s.Reason.skipped() || s.Reason == Left:
			return fmt.Errorf("[%d].reason is %s", i, iamkeys.Quoted(string(s.Reason)))
		}
		seen[s.Account] = true
	}
	return nil
}

// checkList refuses a list in which an entry is not of that run.
func checkList(list []Member, runID, day string) error {
	seen := map[string]bool{}
	for i, m := range list {
		switch {
		case !accountIDs.MatchString(m.Account):
			return fmt.Errorf("[%d].account is %s", i, iamkeys.Quoted(m.Account))
		case seen[m.Account]:
			return fmt.Errorf("[%d].account, %s, is there twice", i, m.Account)
		case m.RunID != runID:
			return fmt.Errorf("[%d].runId is %s", i, iamkeys.Quoted(m.RunID))
		case m.Day != day:
			return fmt.Errorf("[%d].day is %s", i, iamkeys.Quoted(m.Day))
		}
		seen[m.Account] = true
	}
	if len(seen) == 0 {
		return fmt.Errorf("it is empty")
	}
	return nil
}

// readJSON reads a stored object; NoSuchEntity when there is none, else StoreFailed.
func readJSON(ctx context.Context, s3 iamkeys.GetObject, key string, v any) error {
	content, _, err := s3.GetObject(ctx, key)
	switch {
	case iamkeys.CodeOf(err) == iamkeys.NoSuchEntity:
		return err
	case err != nil:
		return iamkeys.Failed(iamkeys.StoreFailed, err, "%s could not be read (%s). Run again.", key, iamkeys.CodeOf(err))
	}
	if err := json.Unmarshal(content, v); err != nil {
		return iamkeys.Failed(iamkeys.StoreFailed, err, "%s cannot be read: %v. Move it away, and start a new run.", key, err)
	}
	return nil
}
