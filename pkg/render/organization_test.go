package render

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"html"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/notice"
)

const organizationWhere = "s3://iamkeys-reports/reports/organization/2026/11/23/20261123T060000Z"

// A member is an account of a sample, with its report.
type member struct {
	row    audit.AccountRow
	report audit.Report
}

// member makes an account of n users, a share of them with findings; reason is why it
// was not examined, "" when it was.
func sampleMember(id int, name string, users int, stale float64, reason audit.NotExamined, random *rand.Rand) member {
	inv := audit.Inventory{Account: fmt.Sprintf("2%011d", id), Source: audit.FromCredentialReport, GeneratedTime: today}
	for i := range users {
		u := user(fmt.Sprintf("%s-%d", []string{"ci", "export", "partner", "backup", "mailer", "build"}[i%6], i), "owner", fmt.Sprintf("team-%d@example.com", i%7))
		u.ARN = "arn:aws:iam::" + inv.Account + ":user/" + u.UserName
		age, used := random.IntN(70), random.IntN(20)
		if random.Float64() < stale {
			age, used = 80+random.IntN(700), random.IntN(120)
		}
		if random.IntN(15) == 0 {
			u.AttachedPolicies = []string{"arn:aws:iam::aws:policy/AdministratorAccess"}
		}
		inv.Users = append(inv.Users, with(u, iamkeys.Active, age, used, "s3"))
	}
	r := judge(inv)
	before := judge(inv)
	dated(before.Findings, 60)
	before.Findings = slices.DeleteFunc(before.Findings, func(audit.Finding) bool { return random.IntN(12) == 0 })
	r.Compare(&before, inv)
	prefix := "reports/" + inv.Account + "/2026/11/23/20261123T060000Z"
	m := member{row: audit.AccountRow{
		Account: inv.Account, Name: name, Examined: reason == "", Severities: r.Summary.Severities, New: r.Summary.New, OldestKeyDays: r.Summary.KeyAges.OldestDays,
		Users: &r.Summary.Coverage.Users, Keys: &r.Summary.Coverage.Keys, Report: &prefix,
	}, report: r}
	if reason != "" {
		m.row.Reason, m.row.Report, m.row.New = &reason, nil, 0
		for i := range m.report.Findings {
			m.report.Findings[i].State = audit.Open
		}
		m.report.Summary.Open, m.report.Summary.New = m.report.Summary.Open+m.report.Summary.New, 0
	}
	if reason == audit.RoleUnavailable {
		m.row.Error = iamkeys.Optional("RoleUnavailable")
		m.row.Cause = iamkeys.Optional("Role iamkeys-member of account " + inv.Account + " could not be assumed: there is no such role, or it does not trust this stack's audit or its external ID. Deploy member.yaml there.")
	}
	return m
}

// merged makes the organization's report of its accounts, as merge does.
func merged(members []member) audit.Organization {
	r := audit.Organization{Accounts: []audit.AccountRow{}, Findings: []audit.Finding{}, Resolved: []audit.Finding{}}
	first := judge(audit.Inventory{Account: account, Source: audit.FromCredentialReport, GeneratedTime: today})
	s := &r.Summary
	s.Summary, s.Day = first.Summary, "2026-11-23"
	week := daysAgo(7)
	s.ComparedWith, s.KeyAges.Counts = &week, make([]int, 49)
	s.Coverage = audit.Coverage{Complete: true}
	for _, m := range members {
		of := m.report.Summary
		r.Accounts = append(r.Accounts, m.row)
		s.Accounts.Total++
		switch {
		case m.row.Examined:
			s.Accounts.Examined++
			s.Coverage.UsersExamined += of.Coverage.Users
			s.Coverage.KeysExamined += of.Coverage.Keys
		case m.row.Skipped():
			s.Accounts.Skipped++
		default:
			s.Accounts.NotExamined++
			s.Coverage.Complete = false
		}
		s.Coverage.Users += of.Coverage.Users
		s.Coverage.Keys += of.Coverage.Keys
		s.Severities.Critical += of.Severities.Critical
		s.Severities.High += of.Severities.High
		s.Severities.Medium += of.Severities.Medium
		s.Severities.Low += of.Severities.Low
		for rule, n := range of.Rules {
			s.Rules[rule] += n
		}
		s.New, s.Open, s.Resolved = s.New+of.New, s.Open+of.Open, s.Resolved+of.Resolved
		for i, n := range of.KeyAges.Counts {
			s.KeyAges.Counts[i] += n
		}
		if o := of.KeyAges.OldestDays; o != nil && (s.KeyAges.OldestDays == nil || *o > *s.KeyAges.OldestDays) {
			s.KeyAges.OldestDays = o
		}
		for _, f := range m.report.Findings {
			if f.State == audit.New || f.Severity == audit.Critical || f.Severity == audit.High {
				r.Findings = append(r.Findings, f)
			}
		}
		r.Resolved = append(r.Resolved, m.report.Resolved...)
	}
	slices.SortStableFunc(r.Findings, func(a, b audit.Finding) int {
		return cmp.Or(slices.Index(audit.Severities, a.Severity)-slices.Index(audit.Severities, b.Severity), slices.Index(iamkeys.Powers, a.Power)-slices.Index(iamkeys.Powers, b.Power))
	})
	if more := len(r.Findings) - 1000; more > 0 {
		r.Findings, r.Omitted = r.Findings[:1000], &more
	}
	return r
}

// dozen is an organization of twelve accounts.
func dozen() []member {
	random := rand.New(rand.NewPCG(3, 4))
	var members []member
	for i, m := range []struct {
		name   string
		users  int
		stale  float64
		reason audit.NotExamined
	}{
		{"security", 6, 0, ""}, {"shop", 14, .4, ""}, {"shop-test", 9, .1, ""}, {"data", 22, .3, ""}, {"partners, <EU> & \"UK\"", 12, .5, ""}, {"sandbox", 5, .9, ""},
		{"acquired last week", 0, 0, audit.RoleUnavailable}, {"old billing", 6, .8, audit.Suspended}, {"legacy", 18, .7, ""}, {"media", 8, .2, ""}, {"empty", 0, 0, ""}, {"ads", 9, .3, audit.Throttled},
	} {
		members = append(members, sampleMember(i+1, m.name, m.users, m.stale, m.reason, random))
	}
	root := audit.Judge(audit.Inventory{Account: members[8].row.Account, Root: audit.UserFacts{Root: true, RootKey: true, User: iamkeys.User{UserName: audit.RootName, ARN: "arn:aws:iam::" + members[8].row.Account + ":root"}}}, thresholds, "owner", today)
	f := root.Findings[0]
	f.State, f.FirstSeen = audit.New, &today
	members[6].row.Users, members[6].row.Keys = nil, nil // never examined yet
	legacy := &members[8]
	legacy.report.Findings = append([]audit.Finding{f}, legacy.report.Findings...)
	legacy.report.Summary.Severities.Critical++
	legacy.report.Summary.New++
	legacy.row.Severities.Critical, legacy.row.New = 1, legacy.row.New+1
	return members
}

// thousand is an organization of a thousand accounts with fifty thousand findings.
func thousand() []member {
	random := rand.New(rand.NewPCG(5, 6))
	var members []member
	for i := range 1000 {
		reason := audit.NotExamined("")
		switch {
		case i%97 == 5:
			reason = audit.RoleUnavailable
		case i%151 == 7:
			reason = audit.TimedOut
		case i%61 == 3:
			reason = audit.Closed
		}
		stale := .9
		if i%4 == 0 {
			stale = 0
		}
		members = append(members, sampleMember(i+1, fmt.Sprintf("workload-%s-%03d", []string{"prod", "stage", "dev"}[i%3], i), 45, stale, reason, random))
	}
	return members
}

func organizationCSV(t testing.TB, members []member) []byte {
	t.Helper()
	var b bytes.Buffer
	rows := OrganizationCSV(&b, merged(members).Summary)
	for _, m := range members {
		if err := rows(m.row, m.report); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestOrganizationGolden(t *testing.T) {
	members := dozen()
	r := merged(members)
	page, err := OrganizationHTML(r)
	if err != nil {
		t.Fatal(err)
	}
	for ext, got := range map[string][]byte{"txt": OrganizationText(r, organizationWhere, 0), "csv": organizationCSV(t, members), "html": page} {
		file := filepath.Join("testdata", "organization."+ext)
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what it was (%v); look at what go test ./pkg/render -update changes. First difference: %s", file, err, difference(got, want))
		}
	}
	soundText(t, string(OrganizationText(r, organizationWhere, 0)))
	soundHTML(t, string(page))
}

// An account that was not examined is named first in mail and page, with its reason, and
// in the table, whatever else there is.
func TestOrganizationNamesUnexamined(t *testing.T) {
	for _, members := range [][]member{dozen(), thousand()} {
		r := merged(members)
		text, table := string(OrganizationText(r, organizationWhere, 0)), string(organizationCSV(t, members))
		page, err := OrganizationHTML(r)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) > 5_000_000 {
			t.Errorf("the page takes %d bytes, want 5,000,000 or fewer", len(page))
		}
		soundHTML(t, string(page))
		for _, m := range members {
			if m.row.Examined {
				continue
			}
			why := notice.WhyNot(m.row)
			if !strings.Contains(text, m.row.Account) || !strings.Contains(string(page), title(why)) || !strings.Contains(string(page), m.row.Account) {
				t.Errorf("account %s (%s) is not named", m.row.Account, why)
			}
			if !strings.Contains(table, m.row.Account+",20261123T060000Z,2026-11-23T06:00:00Z,notExamined,") {
				t.Errorf("account %s is not in the table as not examined", m.row.Account)
			}
		}
		if first := strings.Index(text, "NOT EXAMINED"); first < 0 || first > strings.Index(text, "critical,") {
			t.Error("the mail does not begin with what was not examined")
		}
		m := notice.Organization(OrganizationText)(r, organizationWhere)
		if !m.Fits() || !strings.Contains(m.Subject, "NOT EXAMINED") || len(m.Subject) > 99 {
			t.Errorf("the message fits: %t; subject %q", m.Fits(), m.Subject)
		}
		if want := []iamkeys.Attribute{
			{Name: "kind", Value: "organization"}, {Name: "severity", Value: string(r.Highest())}, {Name: "account", Value: account},
			{Name: "new", Value: fmt.Sprint(r.Summary.New), Number: true}, {Name: "findings", Value: fmt.Sprint(r.Summary.New + r.Summary.Open), Number: true},
		}; !slices.Equal(m.Attributes, want) {
			t.Errorf("attributes %v, want %v", m.Attributes, want)
		}
		unseen := slices.DeleteFunc(slices.Clone(members), func(m member) bool { return m.row.Examined || m.row.Skipped() })
		if brief := strings.Split(m.Brief, "\n"); !strings.Contains(brief[0], "NOT EXAMINED") || strings.Count(m.Brief, "Not examined: ") != min(len(unseen), 10) ||
			!strings.Contains(brief[1], "200000000") || !strings.HasSuffix(m.Brief, " more.") {
			t.Errorf("a chat has\n%s", m.Brief)
		}
		if n := len(m.NextSteps); n < 2 || m.NextSteps[0] != r.Findings[slices.IndexFunc(r.Findings, func(f audit.Finding) bool { return f.State == audit.New })].Remedy || !strings.HasSuffix(m.NextSteps[n-1], organizationWhere+".html") {
			t.Errorf("next steps %q", m.NextSteps)
		}
		rows, err := csv.NewReader(strings.NewReader(table)).ReadAll()
		if err != nil || len(rows) < r.Summary.New+r.Summary.Open {
			t.Errorf("%d rows for %d findings: %v", len(rows), r.Summary.New+r.Summary.Open, err)
		}
	}
}

// Where the facts come from is said also of accounts of both kinds, and of none.
func TestOrganizationSource(t *testing.T) {
	r := merged(dozen())
	r.Summary.Inventory = audit.FromBoth
	reason := audit.RoleUnavailable
	none := merged([]member{{row: audit.AccountRow{Account: "200000000001", Reason: &reason}}})
	none.Summary.Inventory, none.Summary.Thresholds = "", audit.Thresholds{}
	for says, r := range map[string]audit.Organization{"IAM's credential reports, and live reads of accounts that had none": r, "No account was examined": none} {
		page, err := OrganizationHTML(r)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{html.UnescapeString(string(page)), string(OrganizationText(r, organizationWhere, 0))} {
			if text = strings.Join(strings.Fields(text), " "); !strings.Contains(text, says) || strings.Contains(text, " 0 days") {
				t.Errorf("want %q, and no length that nobody set:\n%s", says, text)
			}
		}
	}
}

// Names of accounts are untrusted text, as those of users are.
func TestOrganizationHostile(t *testing.T) {
	for _, name := range []string{"=cmd|' /C calc'!A0", "<script>alert(1)</script>", "a\r\nBcc: x@y\u202e", "\x00\u2028", strings.Repeat("ü", 400)} {
		members := dozen()
		for i := range members {
			members[i].row.Name = name
			members[i].row.Cause = &name
		}
		r := merged(members)
		page, err := OrganizationHTML(r)
		if err != nil {
			t.Fatal(err)
		}
		soundHTML(t, string(page))
		soundText(t, string(OrganizationText(r, organizationWhere, 0)))
		rows, err := csv.NewReader(bytes.NewReader(organizationCSV(t, members))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows[1:] {
			if slices.ContainsFunc(row, formula) {
				t.Fatalf("a cell of %q is a formula", row)
			}
		}
	}
}

func TestOrganizationSchema(t *testing.T) {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for _, name := range []string{"report.schema.json", "organization.schema.json"} {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		id, _ := document.(map[string]any)["$id"].(string)
		if err := c.AddResource(id, document); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := c.Compile("urn:iamkeys:organization:1")
	if err != nil {
		t.Fatal(err)
	}
	valid := func(r audit.Organization) error {
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(v)
	}
	if err := valid(merged(dozen())); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*audit.Organization){
		"day":      func(r *audit.Organization) { r.Summary.Day = "today" },
		"accounts": func(r *audit.Organization) { r.Accounts = nil },
		"account":  func(r *audit.Organization) { r.Accounts[0].Account = "x" },
		"reason":   func(r *audit.Organization) { n := audit.NotExamined("bored"); r.Accounts[0].Reason = &n },
		"finding":  func(r *audit.Organization) { r.Findings[0].Rule = "other" },
	} {
		r := merged(dozen())
		if spoil(&r); valid(r) == nil {
			t.Errorf("a report with a wrong %s is accepted", name)
		}
	}
}
