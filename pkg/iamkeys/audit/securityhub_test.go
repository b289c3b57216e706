package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// hubOn makes an audit send to Security Hub.
func hubOn(p *iamkeystest.Process, o *audit.Audit) {
	o.SecurityHub, o.SendsFindings, o.Region, o.Role.Partition = p, true, "eu-west-1", "aws"
}

// everyRule gives an account in which every rule but unexamined finds something.
func everyRule() *iamkeystest.Account {
	a := iamkeystest.NewAccount()
	a.AddRootKey(900 * day)
	a.AddUser("leaked", iamkeys.Tag{Key: "owner", Value: "sec@example.com"})
	a.Attach("leaked", "arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV3")
	a.AddUser("three")
	for range 3 {
		a.UsedAgo(a.AddKey("three", day), day, "s3", "eu-west-1")
	}
	a.AddUser("idle", iamkeys.Tag{Key: iamkeys.TagExemptUntil, Value: "2026-12-31"}, iamkeys.Tag{Key: iamkeys.TagExemptReason, Value: "the yearly job"})
	a.AddKey("idle", 60*day)
	a.AddUser("old")
	a.UsedAgo(a.AddKey("old", 100*day), day, "s3", "eu-west-1")
	a.AddUser("aging")
	a.UsedAgo(a.AddKey("aging", 80*day), day, "s3", "eu-west-1")
	a.AddUser("pair")
	a.UsedAgo(a.AddKey("pair", 60*day), day, "s3", "eu-west-1")
	a.UsedAgo(a.AddKey("pair", 61*day), day, "s3", "eu-west-1")
	a.AddUser("off")
	a.SetStatus("off", a.AddKey("off", 100*day), iamkeys.Inactive)
	a.AddUser("expired")
	a.SetStatus("expired", a.AddKey("expired", 100*day), "Expired")
	return a
}

// hubSchema validates findings as Security Hub does.
func hubSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join("testdata", "asff.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func valid(t testing.TB, schema *jsonschema.Schema, f iamkeys.SecurityFinding) {
	t.Helper()
	content, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil || len(content) > 240<<10 {
		t.Errorf("Security Hub would refuse %s: %v", content, err)
	}
	if f.ProductARN != "arn:aws:securityhub:eu-west-1:"+f.AwsAccountID+":product/"+f.AwsAccountID+"/default" || f.CreatedAt > f.UpdatedAt {
		t.Errorf("Security Hub would refuse %+v", f)
	}
}

func TestSecurityHubFormat(t *testing.T) {
	a := everyRule()
	out := mustAudit(t, a, event(a), hubOn)
	if h := out.SecurityHub; h == nil || !h.Enabled || h.Sent != out.New+out.Exempt || h.Refused != 0 {
		t.Errorf("the report says %+v of %d findings", h, out.New+out.Exempt)
	}
	schema, rules := hubSchema(t), map[string]bool{}
	all := slices.SortedFunc(maps.Values(a.SecurityHub.Findings), func(x, y iamkeys.SecurityFinding) int {
		return strings.Compare(x.GeneratorID+x.Title+x.ID, y.GeneratorID+y.Title+y.ID)
	})
	for _, f := range all {
		valid(t, schema, f)
		rules[f.GeneratorID] = true
	}
	for _, r := range audit.Rules {
		if r.ID != audit.Unexamined && !rules["iamkeys/"+string(r.ID)] {
			t.Errorf("no finding of rule %s was sent", r.ID)
		}
	}
	got, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	file := filepath.Join("testdata", "asff.json")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what Security Hub gets is not what %s has (%v): look at what -update changes", file, err)
	}
	for _, word := range []string{"SecurityControlId", "Workflow", "IAM.3", "IAM.22"} {
		if bytes.Contains(got, []byte(word)) {
			t.Errorf("%s is written: it would set off automation of AWS, or write over what people decided", word)
		}
	}
}

// Names and tags are untrusted, and as long as IAM allows.
func TestSecurityHubHostile(t *testing.T) {
	a := iamkeystest.NewAccount()
	name := strings.Repeat("n", 128)
	a.AddUser(name, iamkeys.Tag{Key: "owner", Value: strings.Repeat("ö\n", 128)}, iamkeys.Tag{Key: iamkeys.TagExemptUntil, Value: "2026-12-31"}, iamkeys.Tag{Key: iamkeys.TagExemptReason, Value: strings.Repeat("\x00r\u202e", 100)})
	a.Move(name, "/"+strings.Repeat("p", 510)+"/")
	a.AddKey(name, 200*day)
	mustAudit(t, a, event(a), hubOn)
	schema := hubSchema(t)
	for _, f := range a.SecurityHub.Findings {
		valid(t, schema, f) // also with an ARN whose path is longer than a resource's Id may be
		if strings.ContainsFunc(f.Title+f.Description, func(r rune) bool { return !unicode.IsGraphic(r) }) {
			t.Errorf("%q", f.Title+f.Description)
		}
	}
	if len(a.SecurityHub.Findings) != 2 {
		t.Errorf("%d findings, want 2", len(a.SecurityHub.Findings))
	}
}

// From run to run: the same Ids; what is no more is archived, and leaves the book with that.
func TestSecurityHubRuns(t *testing.T) {
	a := everyRule()
	mustAudit(t, a, event(a), hubOn)
	first := maps.Clone(a.SecurityHub.Findings)
	a.Advance(day)
	mustAudit(t, a, event(a), hubOn)
	if got, want := slices.Sorted(maps.Keys(a.SecurityHub.Findings)), slices.Sorted(maps.Keys(first)); !slices.Equal(got, want) {
		t.Errorf("a second run made other Ids: %v, want %v", got, want)
	}
	for id, f := range a.SecurityHub.Findings {
		if f.UpdatedAt <= first[id].UpdatedAt || f.CreatedAt != first[id].CreatedAt || f.RecordState != "ACTIVE" {
			t.Errorf("%s: updated %s after %s, created %s", id, f.UpdatedAt, first[id].UpdatedAt, f.CreatedAt)
		}
	}
	a.RemoveUser("old")
	a.SetStatus("off", a.Keys("off")[0].AccessKeyID, iamkeys.Active) // another rule holds for it now
	a.Advance(day)
	out := mustAudit(t, a, event(a), hubOn)
	schema, archived := hubSchema(t), 0
	for _, f := range a.SecurityHub.Findings {
		valid(t, schema, f)
		if gone := strings.Contains(f.Title, "user old") || f.GeneratorID == "iamkeys/lingering" && strings.Contains(f.Title, "user off"); gone != (f.RecordState == "ARCHIVED") || gone != (f.Compliance.Status == "PASSED") {
			t.Errorf("%s is %s, %s", f.Title, f.RecordState, f.Compliance.Status)
		} else if gone {
			archived++
		}
	}
	if archived != 2 || out.SecurityHub.Sent != out.New+out.Open+out.Exempt+2 {
		t.Errorf("%d archived, sent %d", archived, out.SecurityHub.Sent)
	}
	if book := inBook(t, a); len(book) != out.New+out.Open+out.Exempt {
		t.Errorf("the book has %d findings, %d are active", len(book), out.New+out.Open+out.Exempt)
	}
	imports := a.SecurityHub.Imports
	in := event(a)
	asOf := a.Now()
	in.AsOf, in.EventTime = &asOf, time.Time{}
	if out := mustAudit(t, a, in, hubOn); a.SecurityHub.Imports != imports || out.SecurityHub != nil {
		t.Errorf("a run as of another time sent %d findings", a.SecurityHub.Imports-imports)
	}
}

// inBook gives the Ids that may be active, as the audit has noted them.
func inBook(t testing.TB, a *iamkeystest.Account) []string {
	t.Helper()
	var book struct {
		Findings []struct{ ID string }
	}
	if err := json.Unmarshal(a.Objects()[base+"securityhub.json"].Content, &book); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, e := range book.Findings {
		ids = append(ids, e.ID)
	}
	return ids
}

// What was not examined is left as it is.
func TestSecurityHubUnexamined(t *testing.T) {
	a := everyRule()
	mustAudit(t, a, event(a), hubOn)
	a.Advance(day)
	a.RemoveUser("three")
	mustAudit(t, a, event(a), hubOn, func(p *iamkeystest.Process, _ *audit.Audit) {
		p.Fault = func(_ int, action string) iamkeystest.Fault {
			if action == "iam:ListAccessKeys" && p.Count(action) > 2 {
				return iamkeystest.Refused
			}
			return iamkeystest.None
		}
	})
	for _, f := range a.SecurityHub.Findings {
		if gone := strings.Contains(f.Title, "user three"); gone != (f.RecordState == "ARCHIVED") && f.GeneratorID != "iamkeys/unexamined" {
			t.Errorf("%s is %s", f.Title, f.RecordState)
		}
	}
}

func TestSecurityHubRefusals(t *testing.T) {
	a := everyRule()
	a.SecurityHub.Off = true
	out := mustAudit(t, a, event(a), hubOn)
	if h := out.SecurityHub; h.Enabled || h.Sent != 0 || h.Refused != 0 || !slices.ContainsFunc(out.Notes, func(s string) bool { return strings.Contains(s, "not enabled") }) {
		t.Errorf("not enabled: %+v %v", h, out.Notes)
	}
	a.SecurityHub.Off = false
	a.Advance(day)
	out = mustAudit(t, a, event(a), hubOn, func(p *iamkeystest.Process, _ *audit.Audit) { // a role without the right
		p.Fault = func(_ int, action string) iamkeystest.Fault {
			if action == "securityhub:BatchImportFindings" {
				return iamkeystest.Refused
			}
			return iamkeystest.None
		}
	})
	if h := out.SecurityHub; !h.Enabled || h.Sent != 0 || h.Refused != out.New+out.Open+out.Exempt || !slices.ContainsFunc(out.Notes, func(s string) bool { return strings.Contains(s, "(AccessDenied)") }) {
		t.Errorf("denied: %+v %v", h, out.Notes)
	}
	a.SecurityHub.Refuse = func(f iamkeys.SecurityFinding) bool { return f.GeneratorID == "iamkeys/unused" }
	a.SetObject(base+"securityhub.json", []byte("{"))
	a.Advance(day)
	out = mustAudit(t, a, event(a), hubOn)
	if !slices.ContainsFunc(out.Notes, func(s string) bool { return strings.Contains(s, "begun anew") }) {
		t.Errorf("a damaged book is not said beside what was refused: %v", out.Notes)
	}
	refused := out.Rules[audit.Unused] + out.Exempt
	if h := out.SecurityHub; !h.Enabled || h.Refused != refused || h.Sent != out.New+out.Open+out.Exempt-refused || !slices.ContainsFunc(out.Notes, func(s string) bool { return strings.Contains(s, "Security Hub refused") }) {
		t.Errorf("refused one by one: %+v %v", h, out.Notes)
	}
	a.SecurityHub.Refuse = nil
	a.Advance(day)
	if out = mustAudit(t, a, event(a), hubOn); out.SecurityHub.Refused != 0 || len(a.SecurityHub.Findings) != out.Open+out.Exempt {
		t.Errorf("sent again: %+v, %d are there", out.SecurityHub, len(a.SecurityHub.Findings))
	}
	// An archiving that was refused is tried again.
	a.RemoveUser("old")
	a.SecurityHub.Refuse = func(f iamkeys.SecurityFinding) bool { return f.RecordState == "ARCHIVED" }
	a.Advance(day)
	mustAudit(t, a, event(a), hubOn)
	a.SecurityHub.Refuse = nil
	a.Advance(day)
	mustAudit(t, a, event(a), hubOn)
	for _, f := range a.SecurityHub.Findings {
		if strings.Contains(f.Title, "user old") != (f.RecordState == "ARCHIVED") {
			t.Errorf("%s is %s", f.Title, f.RecordState)
		}
	}
	// A member is sent to its own Security Hub.
	o := organization(1)
	populate(o.Member(accountID(1)).Account)
	run := mustList(t, o, started(o))
	member := mustExamine(t, o, memberInput(run, accountID(1)), func(p *iamkeystest.HubProcess, op *audit.Audit) {
		hubOn(p.Process, op)
		as := op.As
		op.As = func(s iamkeys.Session) audit.Access {
			access := as(s)
			access.SecurityHub = p.As(s)
			return access
		}
	})
	if len(o.Hub.SecurityHub.Findings) != 0 || len(o.Member(accountID(1)).SecurityHub.Findings) != 3 || member.SecurityHub.Sent != 3 {
		t.Errorf("the hub's has %d findings, the member's %d", len(o.Hub.SecurityHub.Findings), len(o.Member(accountID(1)).SecurityHub.Findings))
	}
}

// A hubOf takes everything, and is told by what context.
type hubOf func(context.Context)

func (h hubOf) BatchImportFindings(ctx context.Context, _ []iamkeys.SecurityFinding) ([]iamkeys.RefusedFinding, error) {
	h(ctx)
	return nil, nil
}

// Batches hold 100, ten go out a second, and after a minute the report is stored anyway.
func TestSecurityHubBatches(t *testing.T) {
	a := iamkeystest.NewAccount()
	for i := range 1205 {
		a.AddUser(fmt.Sprintf("user-%04d", i))
		a.AddKey(fmt.Sprintf("user-%04d", i), 60*day)
	}
	calls, before := 0, a.Now()
	out := mustAudit(t, a, event(a), hubOn, func(p *iamkeystest.Process, _ *audit.Audit) {
		p.Before = func(_ int, action string) {
			if action == "securityhub:BatchImportFindings" {
				calls++
			}
		}
	})
	if calls != 13 || out.SecurityHub.Sent != 1205 || a.Now().Sub(before) < 1200*time.Millisecond {
		t.Errorf("%d calls in %v, %d sent", calls, a.Now().Sub(before), out.SecurityHub.Sent)
	}
	// Beside the minute, there is time to store the report.
	for left, want := range map[time.Duration]time.Duration{0: time.Minute, 15 * time.Minute: time.Minute, 70 * time.Second: 40 * time.Second, 10 * time.Second: 5 * time.Second} {
		ctx, cancel := t.Context(), context.CancelFunc(func() {})
		if left > 0 {
			ctx, cancel = context.WithTimeout(ctx, left)
		}
		var had []time.Duration
		p := a.Start()
		op := auditor(p)
		hubOn(p, &op)
		op.SecurityHub = hubOf(func(ctx context.Context) {
			deadline, _ := ctx.Deadline()
			had = append(had, time.Until(deadline))
		})
		a.Advance(day)
		if _, err := op.Run(ctx, event(a)); err != nil || len(had) == 0 || had[0] > want || had[0] < want-5*time.Second {
			t.Errorf("with %v left, sending had %v, want %v (%v)", left, had, want, err)
		}
		cancel()
	}
	a.Advance(day)
	a.SecurityHub.Before = func() { a.Advance(20 * time.Second) }
	out = mustAudit(t, a, event(a), hubOn)
	if sent := out.SecurityHub.Sent; sent < 200 || sent > 400 || !slices.ContainsFunc(out.Notes, func(s string) bool { return strings.Contains(s, "in the time there was") }) {
		t.Errorf("%d sent in a minute of slow calls; %v", sent, out.Notes)
	}
}

// Whatever happens to whichever call: what is active in Security Hub is in the book, or
// will be sent as it is by the next run.
func TestSecurityHubFaults(t *testing.T) {
	for n := 1; ; n++ {
		reached := false
		for _, fault := range iamkeystest.Faults {
			a := everyRule()
			mustAudit(t, a, event(a), hubOn)
			a.RemoveUser("old")
			a.AddUser("late")
			a.AddKey("late", 200*day)
			a.Advance(day)
			_, err, _ := runAudit(a, event(a), hubOn, func(p *iamkeystest.Process, _ *audit.Audit) {
				p.Fault = func(i int, _ string) iamkeystest.Fault {
					if i == n {
						reached = true
						return fault
					}
					return iamkeystest.None
				}
			})
			if err != nil && !slices.Contains([]iamkeys.Code{iamkeys.StoreFailed, iamkeys.NotifyFailed, iamkeys.InventoryUnavailable}, iamkeys.CodeOf(err)) {
				t.Errorf("%s at call %d: %v", fault, n, err)
			}
			book := inBook(t, a)
			for id, f := range a.SecurityHub.Findings {
				if f.RecordState == "ACTIVE" && !slices.Contains(book, id) {
					t.Errorf("%s at call %d: %s is active, and nobody knows", fault, n, f.Title)
				}
			}
			a.Advance(day)
			mustAudit(t, a, event(a), hubOn)
			latest := latest(t, a)
			active := 0
			for _, f := range a.SecurityHub.Findings {
				if f.RecordState == "ACTIVE" {
					active++
				}
			}
			if want := len(latest.Findings) + len(latest.Exempt); active != want {
				t.Errorf("%s at call %d: after the next run %d findings are active, want %d", fault, n, active, want)
			}
		}
		if !reached {
			if n < 20 {
				t.Errorf("faults at %d calls only", n-1)
			}
			return
		}
	}
}
