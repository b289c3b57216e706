package main

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"
)

// hub is Security Hub of one account, as these tests call it.
type hub struct {
	wire
	account string
}

func hubOf(t *testing.T, account string) hub {
	t.Helper()
	on := true
	if _, err := motoAlone(t).SeedAccount(t.Context(), Account{ID: account, SecurityHub: &on}); err != nil {
		t.Fatal(err)
	}
	return hub{wire{motoEndpoint(t), account}, account}
}

// finding is one that Security Hub accepts, with these fields instead of its
// own; nil leaves one out.
func (h hub) finding(id string, at time.Time, instead map[string]any) map[string]any {
	when := at.UTC().Format(time.RFC3339)
	f := map[string]any{
		"SchemaVersion": "2018-10-08", "Id": id, "GeneratorId": "iamkeys/overdue", "AwsAccountId": h.account, "CreatedAt": when, "UpdatedAt": when,
		"ProductArn": "arn:aws:securityhub:" + region + ":" + h.account + ":product/" + h.account + "/default",
		"Title":      "A key is old", "Description": "Rotate it.",
		"FindingProviderFields": map[string]any{"Severity": map[string]any{"Label": "MEDIUM"}, "Types": []any{"Software and Configuration Checks/AWS Security Best Practices"}},
		"Resources": []any{map[string]any{"Type": "AwsIamAccessKey", "Id": "AWS::IAM::AccessKey:AKIAIOSFODNN7EXAMPLE",
			"Details": map[string]any{"AwsIamAccessKey": map[string]any{"Status": "Active", "PrincipalName": "ci"}}}},
	}
	maps.Copy(f, instead)
	maps.DeleteFunc(f, func(_ string, v any) bool { return v == nil })
	return f
}

type imported struct {
	FailedCount, SuccessCount int
	FailedFindings            []struct{ ID, ErrorCode, ErrorMessage string }
}

func (h hub) send(t *testing.T, findings ...map[string]any) (out imported, err error) {
	t.Helper()
	err = h.rest(t.Context(), "securityhub", http.MethodPost, "/findings/import", map[string]any{"Findings": findings}, &out)
	return out, err
}

func (h hub) read(t *testing.T, filters map[string]any) []map[string]any {
	t.Helper()
	var out struct{ Findings []map[string]any }
	if err := h.rest(t.Context(), "securityhub", http.MethodPost, "/findings", map[string]any{"Filters": filters}, &out); err != nil {
		t.Fatal(err)
	}
	return out.Findings
}

func equals(values ...string) (filter []any) {
	for _, v := range values {
		filter = append(filter, map[string]any{"Value": v, "Comparison": "EQUALS"})
	}
	return filter
}

func TestMotoImportsFindingsAsAWS(t *testing.T) {
	h, now := hubOf(t, "999900000010"), time.Now().Add(-time.Hour)
	long := func(n int) string { return strings.Repeat("x", n) }
	resource := func(field string, value any) []any {
		r := map[string]any{"Type": "AwsIamUser", "Id": "arn:aws:iam::1:user/x"}
		r[field] = value
		return []any{r}
	}
	for what, test := range map[string]struct {
		instead map[string]any
		word    string // of the refusal; empty: accepted
	}{
		"as it should be":      {nil, ""},
		"severity at the top":  {map[string]any{"FindingProviderFields": nil, "Severity": map[string]any{"Label": "LOW"}}, ""},
		"time with an offset":  {map[string]any{"UpdatedAt": now.Format("2006-01-02T15:04:05.000+00:00")}, ""},
		"no title":             {map[string]any{"Title": nil}, "Title"},
		"long title":           {map[string]any{"Title": long(257)}, "Title"},
		"long description":     {map[string]any{"Description": long(1025)}, "Description"},
		"long ID":              {map[string]any{"Id": long(513)}, "Id"},
		"old schema":           {map[string]any{"SchemaVersion": "2017-01-01"}, "SchemaVersion"},
		"another account":      {map[string]any{"AwsAccountId": accountID}, "AwsAccountId"},
		"another product":      {map[string]any{"ProductArn": "arn:aws:securityhub:" + region + ":" + accountID + ":product/" + accountID + "/default"}, "ProductArn"},
		"another Region":       {map[string]any{"ProductArn": "arn:aws:securityhub:eu-west-1:999900000010:product/999900000010/default"}, "ProductArn"},
		"a date for a time":    {map[string]any{"CreatedAt": "2026-11-23"}, "CreatedAt"},
		"first observed":       {map[string]any{"FirstObservedAt": "yesterday"}, "FirstObservedAt"},
		"no severity":          {map[string]any{"FindingProviderFields": nil}, "Severity"},
		"severity in lower":    {map[string]any{"FindingProviderFields": map[string]any{"Severity": map[string]any{"Label": "medium"}}}, "Severity"},
		"a type of ours":       {map[string]any{"Types": []any{"iamkeys"}, "FindingProviderFields": map[string]any{"Severity": map[string]any{"Label": "LOW"}}}, "Types"},
		"no resources":         {map[string]any{"Resources": []any{}}, "Resources"},
		"a resource without":   {map[string]any{"Resources": resource("Id", "")}, "resource"},
		"a long resource":      {map[string]any{"Resources": resource("Id", long(513))}, "resource"},
		"an Expired key":       {map[string]any{"Resources": resource("Details", map[string]any{"AwsIamAccessKey": map[string]any{"Status": "Expired"}})}, "Status"},
		"record state":         {map[string]any{"RecordState": "CLOSED"}, "RecordState"},
		"compliance":           {map[string]any{"Compliance": map[string]any{"Status": "BAD"}}, "Compliance"},
		"long recommendation":  {map[string]any{"Remediation": map[string]any{"Recommendation": map[string]any{"Text": long(513)}}}, "Recommendation"},
		"more than 240 KB":     {map[string]any{"ProductFields": map[string]any{"a": "b"}, "Note": long(250 * 1024)}, "240 KB"},
		"UpdatedAt to be":      {map[string]any{"UpdatedAt": now.Add(3 * time.Hour).UTC().Format(time.RFC3339)}, "UpdatedAt"},
		"an odd requirement":   {map[string]any{"Compliance": map[string]any{"Status": "FAILED", "RelatedRequirements": []any{long(65)}}}, "requirement"},
		"a long product field": {map[string]any{"ProductFields": map[string]any{long(129): "x"}}, "ProductFields"},
	} {
		id := "one/" + what
		if test.instead["Id"] != nil {
			id = test.instead["Id"].(string)
		}
		out, err := h.send(t, h.finding(id, now, test.instead), h.finding("beside/"+what, now, nil))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if test.word == "" && out.SuccessCount != 2 || test.word != "" && (out.SuccessCount != 1 || out.FailedCount != 1 ||
			out.FailedFindings[0].ID != id || out.FailedFindings[0].ErrorCode != "InvalidInput" || !strings.Contains(out.FailedFindings[0].ErrorMessage, test.word)) {
			t.Errorf("%s: %+v", what, out)
		}
		if got := len(h.read(t, map[string]any{"Id": equals(id)})); (got == 1) != (test.word == "") {
			t.Errorf("%s: %d are stored", what, got)
		}
	}

	many := make([]map[string]any, 101)
	for i := range many {
		many[i] = h.finding(fmt.Sprint("many/", i), now, nil)
	}
	if _, err := h.send(t, many...); code(t, err) != "InvalidInputException" {
		t.Errorf("101 findings: %v", err)
	}
	if _, err := h.send(t); code(t, err) != "InvalidInputException" {
		t.Errorf("no finding: %v", err)
	}
	if out, err := h.send(t, many[:100]...); err != nil || out.SuccessCount != 100 {
		t.Errorf("100 findings: %+v, %v", out, err)
	}
	off := false
	if _, err := motoAlone(t).SeedAccount(t.Context(), Account{ID: h.account, SecurityHub: &off}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.send(t, many[0]); code(t, err) != "InvalidAccessException" {
		t.Errorf("a hub that is off: %v", err)
	}
}

func TestMotoUpdatesFindingsAsAWS(t *testing.T) {
	now := time.Now().Add(-time.Hour)
	h := hubOf(t, fmt.Sprintf("9998%08d", now.UnixMicro()%1e8)) // one without findings, whoever ran before
	kept := fmt.Sprint("kept/", now.UnixNano())
	send := func(at time.Time, instead map[string]any) {
		t.Helper()
		if out, err := h.send(t, h.finding(kept, at, instead)); err != nil || out.SuccessCount != 1 {
			t.Fatalf("%+v, %v", out, err)
		}
	}
	stored := func() map[string]any {
		t.Helper()
		found := h.read(t, map[string]any{"Id": equals("other", kept)})
		if len(found) != 1 {
			t.Fatalf("%d findings", len(found))
		}
		return found[0]
	}
	label := func(f map[string]any) any { return f["Severity"].(map[string]any)["Label"] }

	send(now, nil)
	if f := stored(); label(f) != "MEDIUM" || f["Workflow"].(map[string]any)["Status"] != "NEW" || f["RecordState"] != "ACTIVE" {
		t.Errorf("a new finding: %v", f)
	}
	var updated struct{ ProcessedFindings []any }
	err := h.rest(t.Context(), "securityhub", http.MethodPatch, "/findings/batchupdate", map[string]any{
		"FindingIdentifiers": []any{map[string]any{"Id": kept, "ProductArn": stored()["ProductArn"]}},
		"Workflow":           map[string]any{"Status": "SUPPRESSED"}}, &updated)
	if err != nil || len(updated.ProcessedFindings) != 1 {
		t.Fatalf("%+v, %v", updated, err)
	}
	send(now.Add(time.Minute), map[string]any{"Title": "A key is older", "Workflow": map[string]any{"Status": "NEW"}, "RecordState": "ARCHIVED",
		"FindingProviderFields": map[string]any{"Severity": map[string]any{"Label": "HIGH"}}})
	if f := stored(); f["Title"] != "A key is older" || f["RecordState"] != "ARCHIVED" || label(f) != "HIGH" || f["Workflow"].(map[string]any)["Status"] != "SUPPRESSED" {
		t.Errorf("a later import, which may not touch what people decided: %v", f)
	}
	send(now.Add(30*time.Second), map[string]any{"Title": "A key was old"})
	if f := stored(); f["Title"] != "A key is older" {
		t.Errorf("an older import won: %v", f)
	}

	send(now.Add(2*time.Minute), map[string]any{"RecordState": "ACTIVE"})
	for filters, want := range map[*map[string]any]int{
		{"AwsAccountId": equals(h.account)}: 1, {"AwsAccountId": equals(accountID)}: 0, {}: 1,
		{"Id": equals(kept), "RecordState": equals("ARCHIVED")}:                             0,
		{"GeneratorId": []any{map[string]any{"Value": "iamkeys/", "Comparison": "PREFIX"}}}: 1,
		{"WorkflowStatus": equals("NEW")}:                                                   0,
	} {
		if got := len(h.read(t, *filters)); got != want {
			t.Errorf("%v finds %d, want %d", *filters, got, want)
		}
	}
}

// TestMotoSendsMail: SES v2 refuses a sender that is not verified, and what it
// sent can be read.
func TestMotoSendsMail(t *testing.T) {
	c := motoAlone(t)
	const account = "999900000012"
	if _, err := c.SeedAccount(t.Context(), Account{ID: account, Senders: []string{"example.com"}}); err != nil {
		t.Fatal(err)
	}
	send := func(from string) error {
		text := func(s string) map[string]any { return map[string]any{"Data": s} }
		return wire{c.moto.String(), account}.rest(t.Context(), "ses", http.MethodPost, "/v2/email/outbound-emails", map[string]any{
			"FromEmailAddress": from, "Destination": map[string]any{"ToAddresses": []any{"owner@example.org"}},
			"Content": map[string]any{"Simple": map[string]any{"Subject": text("Your keys"), "Body": map[string]any{"Text": text("plain"), "Html": text("<p>")}}},
		}, nil)
	}
	if got := code(t, send("keys@elsewhere.example")); got != "MessageRejected" {
		t.Errorf("an unverified sender: %q", got)
	}
	if err := send("keys@example.com"); err != nil {
		t.Fatal(err)
	}
	mails, err := c.Mails(t.Context(), account, true)
	want := Mail{From: "keys@example.com", To: []string{"owner@example.org"}, Subject: "Your keys", Text: "plain", HTML: "<p>"}
	if err != nil || len(mails) != 1 || fmt.Sprint(mails[0]) != fmt.Sprint(want) {
		t.Errorf("sent %+v (%v), want %+v", mails, err, want)
	}
	if mails, _ := c.Mails(t.Context(), account, false); len(mails) != 0 {
		t.Errorf("not forgotten: %+v", mails)
	}
}
