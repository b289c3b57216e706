package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"iamkeys/pkg/iamkeys"
)

// What Security Hub takes in a call and a second, and how long sending may take: what is
// not sent by then goes out with the next run, as does what was refused.
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_BatchImportFindings.html
const (
	hubBatch   = 100
	hubPause   = 100 * time.Millisecond
	hubTimeout = 60 * time.Second
)

// A hubEntry is a finding that may be active in Security Hub, as securityhub.json has it:
// what it takes to archive it.
type hubEntry struct {
	ID          string     `json:"id"`
	Rule        RuleID     `json:"rule"`
	Severity    Severity   `json:"severity"`
	UserName    string     `json:"userName"`
	UserARN     string     `json:"userArn"`
	AccessKeyID *string    `json:"accessKeyId"`
	CreateDate  *time.Time `json:"createDate"`
	FirstSeen   *time.Time `json:"firstSeen"`
}

func (e hubEntry) finding() Finding {
	return Finding{Rule: e.Rule, Severity: e.Severity, UserName: e.UserName, UserARN: e.UserARN, AccessKeyID: e.AccessKeyID, CreateDate: e.CreateDate, FirstSeen: e.FirstSeen}
}

// hubID names a finding in Security Hub, the same in every run: a user's ARN alone can
// be longer than an Id may be.
func hubID(f Finding) string {
	id, created := f.identity(), ""
	if !id.created.IsZero() {
		created = id.created.Format(time.RFC3339)
	}
	sum := sha256.Sum256([]byte(string(id.rule) + "\n" + id.user + "\n" + created))
	return "iamkeys/" + string(id.rule) + "/" + hex.EncodeToString(sum[:16])
}

// A hubSending is the sending of one audit's findings to the Security Hub of its account.
type hubSending struct {
	Audit
	runs  runs
	c     *comparison
	done  SecurityHub
	notes []string // what a reader must know of it
}

// sendFindings sends what the audit found to the account's Security Hub, and archives
// there what it examined and did not find any more. Not being enabled, and refusals, are
// said in the report and fail nothing; an error is StoreFailed.
func (o Audit) sendFindings(ctx context.Context, s runs, c *comparison) error {
	h := hubSending{Audit: o, runs: s, c: c, done: SecurityHub{Enabled: true}}
	if err := h.send(ctx); err != nil {
		return err
	}
	for _, summary := range []*Summary{&c.Summary, &c.judged.Summary} {
		sent := h.done
		summary.SecurityHub = &sent
		summary.Notes = append(slices.Clone(summary.Notes), h.notes...)
	}
	return nil
}

func (h *hubSending) send(ctx context.Context) error {
	now := h.Now()
	found, order := map[string]hubEntry{}, []iamkeys.SecurityFinding{}
	for _, f := range slices.Concat(h.c.Findings, h.c.Exempt) {
		id := hubID(f)
		if _, twice := found[id]; !twice { // two keys made in the same second
			found[id] = hubEntry{id, f.Rule, f.Severity, f.UserName, f.UserARN, f.AccessKeyID, f.CreateDate, f.FirstSeen}
			order = append(order, h.asff(f, now, true))
		}
	}
	// Noted before it is sent: what may be active must be known.
	known, err := h.bookkeep(ctx, func(known map[string]hubEntry) { maps.Copy(known, found) })
	if err != nil {
		return err
	}
	var gone []string
	for _, id := range slices.Sorted(maps.Keys(known)) {
		if _, still := found[id]; !still && !h.stays(known[id].finding()) {
			gone = append(gone, id)
			order = append(order, h.asff(known[id].finding(), now, false))
		}
	}
	if len(order) == 0 {
		return nil
	}
	accepted := h.batches(ctx, order)
	_, err = h.bookkeep(ctx, func(known map[string]hubEntry) {
		for id, e := range found { // another run may have archived it and taken it off, before it was sent here
			if accepted[id] {
				known[id] = e
			}
		}
		for _, id := range gone {
			if accepted[id] {
				delete(known, id)
			}
		}
	})
	return err
}

// stays reports whether a finding's user was not examined, so that nothing is known of it.
func (h *hubSending) stays(f Finding) bool {
	u, unread := h.c.unexamined[identifies(f.UserName, f.UserARN)]
	return unread && !u.lacks(f)
}

// batches sends the findings and gives those that Security Hub took for certain.
func (h *hubSending) batches(ctx context.Context, findings []iamkeys.SecurityFinding) map[string]bool {
	accepted := map[string]bool{}
	began := h.Now()
	if deadline, ok := ctx.Deadline(); ok { // the report must still be stored
		var stop context.CancelFunc
		ctx, stop = context.WithDeadline(ctx, deadline.Add(-min(reserve/2, time.Until(deadline)/2)))
		defer stop()
	}
	ctx, cancel := context.WithTimeout(ctx, hubTimeout)
	defer cancel()
	var refused []iamkeys.RefusedFinding
	for batch := range slices.Chunk(findings, hubBatch) {
		if len(accepted)+len(refused) > 0 && h.Inventory.Sleep(ctx, hubPause) != nil || ctx.Err() != nil || h.Now().Sub(began) > hubTimeout {
			h.notes = append(h.notes, fmt.Sprintf("Not all findings were sent to Security Hub in the time there was: %d of %d.", len(accepted)+len(refused), len(findings)))
			break
		}
		not, err := h.SecurityHub.BatchImportFindings(ctx, batch)
		switch code := iamkeys.CodeOf(err); {
		case code == iamkeys.NoSuchEntity:
			h.done.Enabled = false
			h.notes = append(h.notes, "Security Hub is not enabled in account "+h.runs.account+" and Region "+h.Region+", so findings were not sent there.")
			return accepted
		case err != nil:
			h.Log.WarnContext(ctx, "findings not sent to Security Hub", "account", h.runs.account, "error", err.Error())
			h.done.Refused += len(findings) - h.done.Sent - h.done.Refused
			h.notes = append(h.notes, fmt.Sprintf("Security Hub did not take %d findings (%s). They are sent again with the next run.", h.done.Refused, code))
			return accepted
		}
		refused = append(refused, not...)
		for _, f := range batch {
			if !slices.ContainsFunc(not, func(r iamkeys.RefusedFinding) bool { return r.ID == f.ID }) {
				accepted[f.ID] = true
				h.done.Sent++
			}
		}
		h.done.Refused = len(refused)
	}
	if len(refused) > 0 {
		h.Log.WarnContext(ctx, "Security Hub refused findings", "account", h.runs.account, "refused", refused)
		h.notes = append(h.notes, fmt.Sprintf("Security Hub refused %d findings, such as %s (%s: %s). They are sent again with the next run.", len(refused), refused[0].ID, refused[0].Code, cut(refused[0].Message, maxRowCause)))
	}
	return accepted
}

// bookkeep changes what securityhub.json has, and gives what it has then.
func (h *hubSending) bookkeep(ctx context.Context, change func(known map[string]hubEntry)) (map[string]hubEntry, error) {
	key := h.runs.base() + "securityhub.json"
	for range 5 {
		known := map[string]hubEntry{}
		content, etag, err := h.S3.GetObject(ctx, key)
		if code := iamkeys.CodeOf(err); err != nil && code != iamkeys.NoSuchEntity {
			return nil, iamkeys.Failed(iamkeys.StoreFailed, err, "What may be active in Security Hub could not be read at %s (%s), so nothing was sent there. Run again.", key, code)
		}
		var stored struct {
			Findings []hubEntry `json:"findings"`
		}
		damaged := key + " could not be read, and was begun anew: what was sent to Security Hub before and is no more stays active there for up to 90 days."
		if err == nil && json.Unmarshal(content, &stored) != nil && !slices.Contains(h.notes, damaged) {
			h.notes = append(h.notes, damaged)
		}
		for _, e := range stored.Findings {
			known[e.ID] = e
		}
		before := maps.Clone(known)
		change(known)
		if maps.EqualFunc(before, known, func(a, b hubEntry) bool { return a.ID == b.ID }) {
			return known, nil
		}
		stored.Findings = slices.SortedFunc(maps.Values(known), func(a, b hubEntry) int { return cmp.Compare(a.ID, b.ID) })
		if content, err = json.Marshal(stored); err == nil {
			err = h.S3.PutObject(ctx, key, "application/json", bytes.NewReader(content), &etag)
		}
		switch code := iamkeys.CodeOf(err); {
		case err == nil:
			return known, nil
		case code != iamkeys.InProgress:
			return nil, iamkeys.Failed(iamkeys.StoreFailed, err, "What may be active in Security Hub could not be written to %s (%s). Run again.", key, code)
		}
	}
	return nil, iamkeys.Refuse(iamkeys.StoreFailed, "%s was another one at every try: other runs are at work. Run again.", key)
}

// The lengths that Security Hub takes, in characters; of the recommendation and the title it says so itself.
const (
	hubTitle          = 256
	hubDescription    = 1024
	hubRecommendation = 512
	hubRequirement    = 64
	hubResource       = 512
)

// hubTime is how the format writes times.
const hubTime = "2006-01-02T15:04:05.000Z"

// hubLabels are the severities in Security Hub's words.
var hubLabels = map[Severity]string{Critical: "CRITICAL", High: "HIGH", Medium: "MEDIUM", Low: "LOW"}

// asff writes a finding as Security Hub takes it; one that is no more as archived. The
// workflow status belongs to people, and a SecurityControlId would call AWS's own
// automation for that control, which switches keys off by age: neither is written.
func (h *hubSending) asff(f Finding, now time.Time, active bool) iamkeys.SecurityFinding {
	account, partition := h.runs.account, h.Role.Partition
	rule, _ := RuleOf(f.Rule)
	moment := func(t *time.Time) string {
		if t == nil {
			t = &now
		}
		return t.UTC().Format(hubTime)
	}
	s := iamkeys.SecurityFinding{
		SchemaVersion: "2018-10-08", ID: hubID(f), ProductARN: "arn:" + partition + ":securityhub:" + h.Region + ":" + account + ":product/" + account + "/default",
		GeneratorID: "iamkeys/" + string(f.Rule), AwsAccountID: account, CreatedAt: moment(f.FirstSeen), UpdatedAt: moment(&now), FirstObservedAt: moment(f.FirstSeen),
		Title:       hubText("IAM user "+f.UserName+": "+lowered(hubWhat(f, rule)), hubTitle),
		Description: hubText(hubDescribe(f, rule, active), hubDescription),
		Remediation: iamkeys.SecurityRemediation{Recommendation: iamkeys.SecurityRecommendation{Text: hubText(cmp.Or(f.Remedy, rule.Remedy), hubRecommendation)}},
		FindingProviderFields: iamkeys.SecurityProviderFields{
			Severity: iamkeys.SecuritySeverity{Label: hubLabels[f.Severity], Original: string(f.Severity)},
			Types:    []string{hubType(rule)},
		},
		Compliance: iamkeys.SecurityCompliance{Status: "FAILED"}, RecordState: "ACTIVE",
	}
	if !active {
		s.Compliance.Status, s.RecordState = "PASSED", "ARCHIVED"
	}
	for _, c := range rule.Controls {
		if !strings.HasPrefix(c, "Security Hub") {
			s.Compliance.RelatedRequirements = append(s.Compliance.RelatedRequirements, hubText(c, hubRequirement))
		}
	}
	if f.AccessKeyID != nil {
		key := &iamkeys.SecurityAccessKey{AccessKeyID: *f.AccessKeyID, AccountID: account, PrincipalName: f.UserName, PrincipalType: "User"}
		if f.CreateDate != nil {
			key.CreatedAt = moment(f.CreateDate)
		}
		if f.Status != nil && (*f.Status == iamkeys.Active || *f.Status == iamkeys.Inactive) {
			key.Status = string(*f.Status)
		}
		s.Resources = append(s.Resources, iamkeys.SecurityResource{Type: "AwsIamAccessKey", ID: "AWS::IAM::AccessKey:" + *f.AccessKeyID, Partition: partition, Region: h.Region, Details: &iamkeys.SecurityDetails{AwsIamAccessKey: key}})
	}
	user := iamkeys.SecurityResource{Type: "AwsIamUser", ID: f.UserARN, Partition: partition, Region: h.Region}
	if f.UserName == RootName {
		user.ID = "arn:" + partition + ":iam::" + account + ":root"
	} else {
		if len(user.ID) > hubResource { // without its path, since the name alone tells users apart
			user.ID = "arn:" + partition + ":iam::" + account + ":user/" + f.UserName
		}
		user.Details = &iamkeys.SecurityDetails{AwsIamUser: &iamkeys.SecurityUser{UserName: f.UserName}}
	}
	s.Resources = append(s.Resources, user)
	return s
}

// hubType classifies a rule in the format's taxonomy.
func hubType(r Rule) string {
	switch {
	case r.ID == Exposed:
		return "Effects/Data Exposure"
	case len(r.Controls) > 0:
		return "Software and Configuration Checks/Industry and Regulatory Standards/CIS AWS Foundations Benchmark"
	}
	return "Software and Configuration Checks/AWS Security Best Practices"
}

// hubWhat says in a few words what is wrong.
func hubWhat(f Finding, rule Rule) string {
	if rule.What == nil { // of another release
		return string(f.Rule)
	}
	return rule.What(f)
}

// hubDescribe says what is known of the finding.
func hubDescribe(f Finding, rule Rule, active bool) string {
	said := []string{hubWhat(f, rule) + "."}
	if !active {
		said = append(said, "Looked for again, and not found any more.")
	}
	if f.AccessKeyID != nil && f.AgeDays != nil {
		said = append(said, fmt.Sprintf("Access key %s is %d days old.", *f.AccessKeyID, *f.AgeDays))
	}
	switch {
	case f.LastUsedDate != nil:
		said = append(said, "It was last used on "+f.LastUsedDate.UTC().Format(time.DateOnly)+".")
	case f.NeverUsed != nil && *f.NeverUsed:
		said = append(said, "It was never used.")
	}
	if f.Owner != nil {
		said = append(said, "Owner: "+*f.Owner+".")
	}
	if e := f.Exemption; e != nil {
		held := "Exempt until " + e.Until + " (" + e.Reason + ")."
		if e.Invalid != nil {
			held = "Its exemption until " + e.Until + " (" + e.Reason + ") does not hold: " + *e.Invalid + "."
		}
		said = append(said, held)
	}
	return strings.Join(said, " ")
}

// hubText makes text of at most that many characters, each of which shows itself alone (no
// control characters, nothing that turns the writing direction), and never none.
func hubText(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most-1]) + "…"
	}
	return cmp.Or(s, "-")
}

// lowered makes the start of a sentence the middle of one.
func lowered(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
