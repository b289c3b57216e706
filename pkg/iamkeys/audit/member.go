package audit

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"iamkeys/pkg/iamkeys"
)

// MemberRole is the role by which the audit examines other accounts; without a name
// it examines none.
type MemberRole struct {
	Partition  string // such as aws
	Path       string // begins and ends in "/"
	Name       string
	ExternalID string // "" for none
}

func (r MemberRole) arn(account string) string {
	return "arn:" + r.Partition + ":iam::" + account + ":role" + r.Path + r.Name
}

// Access is what speaks to an account's services, with the rights of the audit there.
type Access struct {
	IAM         InventoryIAM
	SecurityHub iamkeys.BatchImportFindings
	Calls       func() int // made to IAM so far, each attempt counted
}

// Failed is how an account's audit ended without a report, in the words of the workflow.
type Failed struct {
	Error string `json:"error"`
	Cause string `json:"cause"`
}

// An unexaminedAccount is what is stored of an account that a run could not examine.
type unexaminedAccount struct {
	Member
	Reason NotExamined `json:"reason"`
	Failed
}

// The reasons of accounts that could not be examined.
const (
	RoleUnavailable NotExamined = "roleUnavailable" // there is no such role, or it does not trust us: STS does not say which
	Denied          NotExamined = "denied"          // a call in it, by a policy, of the organization where AWS names one
	Throttled       NotExamined = "throttled"
	TimedOut        NotExamined = "timedOut"
	Missing         NotExamined = "missing" // the organization had it in the run before, and does not list it any more
	Died            NotExamined = "died"    // there is neither a report nor a reason
	FailedAudit     NotExamined = "failed"  // anything else
)

// maxCause is how much of a failure's message is stored, bytes.
const maxCause = 1 << 10

// organizationPolicy is how messages of awserr name the policy that denies a call.
const organizationPolicy = "control policy of the organization"

// reason says in a word why an account could not be examined. Messages have in
// parentheses what kept an inventory from being taken, or all users from being read.
func (f Failed) reason() NotExamined {
	because := func(why string) bool {
		return f.Error == string(iamkeys.InventoryUnavailable) && strings.Contains(f.Cause, "("+why+")")
	}
	for _, row := range []struct {
		when   bool
		reason NotExamined
	}{
		{strings.Contains(f.Cause, organizationPolicy), Denied},
		{f.Error == string(iamkeys.RoleUnavailable), RoleUnavailable},
		{f.Error == string(iamkeys.AccessDenied) || because(string(iamkeys.AccessDenied)), Denied},
		{f.Error == string(iamkeys.Throttled) || because(string(iamkeys.Throttled)), Throttled},
		{f.Error == "Lambda.TooManyRequestsException", Throttled},
		{because(outOfTime), TimedOut},
		{slices.Contains([]string{"States.Timeout", "Sandbox.Timedout", "Lambda.Unknown"}, f.Error), TimedOut},
	} {
		if row.when {
			return row.reason
		}
	}
	return FailedAudit
}

// validateMember refuses a malformed member of an organization's run.
func (in Input) validateMember() error {
	alone := in.Account == "" && in.RunID == "" && in.Day == ""
	switch {
	case alone && (in.Name != "" || in.Failed != nil):
		return iamkeys.Refuse(iamkeys.InvalidInput, "account, runId and day must be given with name and failed: these speak of one account in a run over the organization.")
	case alone:
		return nil
	case in.AsOf != nil, in.Tell != "":
		return iamkeys.Refuse(iamkeys.InvalidInput, "asOf and notify go without account: a member account is examined as of now, and merge tells of it.")
	case in.Failed != nil && in.Failed.Error == "":
		return iamkeys.Refuse(iamkeys.InvalidInput, "failed.error must be the name of the error that ended the account's audit.")
	}
	if err := checkAccount(in.Account); err != nil {
		return err
	}
	return checkRun(in.RunID, in.Day)
}

// member examines one account in a run over the organization: its report is stored and
// compared, but neither published nor made the latest one, which merge does. A report
// that is stored is only answered from. What ended an earlier attempt is stored where
// there is no report.
func (o Audit) member(ctx context.Context, in Input) (Output, error) {
	m := Member{in.Account, shortened(in.Name), in.RunID, in.Day}
	if m.Account != o.Account && o.Role.Name == "" && in.Failed == nil {
		return Output{}, iamkeys.Refuse(iamkeys.InvalidInput, "account %s is not this stack's, and the parameter MemberRole names no role to examine others by.", m.Account)
	}
	if err := o.listed(ctx, m); err != nil {
		return Output{}, err
	}
	s := o.runs(m.Account)
	day, _ := time.Parse(runDay, m.Day) // as Validate has seen
	r := s.at(m.RunID, day)
	out := Output{Report: ReportLocation{o.Bucket, r.prefix}}
	report, err := s.stored(ctx, r)
	switch {
	case err != nil:
		return out, err
	case report != nil:
		out.Summary = report.Summary
		return out, nil
	case in.Failed != nil:
		out.Summary.SchemaVersion, out.Summary.RunID, out.Summary.Account = SchemaVersion, m.RunID, m.Account
		return out, o.storeFailed(ctx, r, m, *in.Failed)
	}
	before, err := s.latest(ctx)
	if err != nil {
		return out, err
	}
	if m.Account != o.Account {
		access, err := o.assume(ctx, m)
		if err != nil {
			return out, err
		}
		o.Inventory.IAM, o.SecurityHub, o.Calls = access.IAM, access.SecurityHub, access.Calls
	}
	c, err := o.examine(ctx, in, s, r, before)
	if err != nil {
		return out, failedAt(m, err)
	}
	if cov := c.Summary.Coverage; cov.UsersExamined == 0 && cov.Users > 0 {
		why := c.unexamined[c.Findings[slices.IndexFunc(c.Findings, func(f Finding) bool { return f.Rule == Unexamined && f.UserName != RootName })].UserARN]
		return out, iamkeys.Refuse(iamkeys.InventoryUnavailable, "None of the %d users of account %s could be examined, such as %s (%s). The log says why of each; start the run again when that is mended.", cov.Users, m.label(), iamkeys.Quoted(why.UserName), why.Unexamined)
	}
	// Merge reads the stored report twice, and must find it as it was told.
	switch err := s.storeOnce(ctx, r, c.Report); iamkeys.CodeOf(err) {
	case "":
		out.Summary = c.Summary
	case iamkeys.InProgress: // another child was faster, or this one's first attempt
		report, err := s.stored(ctx, r)
		if err != nil || report == nil {
			return out, cmp.Or(err, error(iamkeys.Refuse(iamkeys.StoreFailed, "The report of account %s is stored at %s.json and cannot be read back. Run again.", m.label(), r.prefix)))
		}
		out.Summary = report.Summary
	default:
		return out, err
	}
	return out, nil
}

// label names an account for people.
func (m Member) label() string {
	if m.Name == "" {
		return m.Account
	}
	return m.Account + " (" + iamkeys.Quoted(m.Name) + ")"
}

// listed refuses an account that is not in the run's list. Where no list is stored, a
// person examines one account.
func (o Audit) listed(ctx context.Context, m Member) error {
	var list []Member
	err := readJSON(ctx, o.S3, listKey(m.RunID, m.Day), &list)
	switch {
	case iamkeys.CodeOf(err) == iamkeys.NoSuchEntity:
		return nil
	case err != nil:
		return err
	case !slices.ContainsFunc(list, func(l Member) bool { return l.Account == m.Account && l.RunID == m.RunID && l.Day == m.Day }):
		return iamkeys.Refuse(iamkeys.InvalidInput, "account %s is not in the list of run %s, s3://%s/%s, so nothing was read in it.", m.Account, m.RunID, o.Bucket, listKey(m.RunID, m.Day))
	}
	return nil
}

// assume takes on the member role in the account.
func (o Audit) assume(ctx context.Context, m Member) (Access, error) {
	session, err := o.STS.AssumeRole(ctx, o.Role.arn(m.Account), "iamkeys-"+m.RunID[:min(len(m.RunID), 56)], o.Role.ExternalID) // 64 characters at most
	switch code := iamkeys.CodeOf(err); code {
	case "":
		return o.As(session), nil
	case iamkeys.AccessDenied, iamkeys.NoSuchEntity:
		if said := innermost(err); strings.Contains(said, organizationPolicy) {
			return Access{}, iamkeys.Failed(iamkeys.RoleUnavailable, err, "Role %s of account %s could not be assumed. %s", o.Role.Name, m.label(), said)
		}
		return Access{}, iamkeys.Failed(iamkeys.RoleUnavailable, err, "Role %s of account %s could not be assumed: there is no such role, or it does not trust this stack's audit or its external ID. Deploy member.yaml there.", o.Role.Name, m.label())
	default:
		return Access{}, iamkeys.Failed(code, err, "Role %s of account %s could not be assumed. %s", o.Role.Name, m.label(), innermost(err))
	}
}

// failedAt says in which account it was that something failed, and what AWS said.
func failedAt(m Member, err error) error {
	code, message := iamkeys.CodeOf(err), ""
	if e, ok := errors.AsType[*iamkeys.Error](err); ok {
		message = e.Message
	}
	if said := innermost(err); said != message {
		message += " " + said
	}
	return iamkeys.Failed(code, err, "Account %s was not examined. %s", m.label(), message)
}

// innermost gives the message of the first error of a chain, which an adapter made.
func innermost(err error) (message string) {
	for e, ok := errors.AsType[*iamkeys.Error](err); ok; e, ok = errors.AsType[*iamkeys.Error](e.Err) {
		message = e.Message
	}
	return message
}

// storeFailed stores why the account could not be examined.
func (o Audit) storeFailed(ctx context.Context, r run, m Member, f Failed) error {
	var cause struct {
		Message *string `json:"errorMessage"`
	}
	if json.Unmarshal([]byte(f.Cause), &cause) == nil && cause.Message != nil { // as Lambda's errors reach a workflow
		f.Cause = *cause.Message
	}
	reason := f.reason()
	f.Error, f.Cause = cut(f.Error, maxAccountName), cut(f.Cause, maxCause)
	content, err := json.Marshal(unexaminedAccount{m, reason, f})
	if err == nil {
		err = o.S3.PutObject(ctx, r.prefix+".failed.json", "application/json", bytes.NewReader(content), nil)
	}
	if err != nil {
		return iamkeys.Failed(iamkeys.StoreFailed, err, "Why account %s could not be examined could not be stored at %s.failed.json (%s); the organization's report will say that it died.", m.label(), r.prefix, iamkeys.CodeOf(err))
	}
	o.Log.WarnContext(ctx, "account not examined", "account", m.Account, "reason", string(reason), "error", f.Error)
	return nil
}
