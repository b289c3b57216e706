package render

import (
	"bytes"
	"encoding/csv"
	"strconv"
	"strings"
	"time"
	"unicode"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
)

// header names CSV's columns. A new one is added at the end: sheets are built on these.
var header = []string{
	"account", "runId", "asOf", "state", "severity", "rule", "userName", "userArn", "accessKeyId", "status", "createDate", "ageDays",
	"lastUsedDate", "neverUsed", "idleDays", "serviceName", "region", "owner", "firstSeen", "exemptionReason", "exemptionUntil",
	"exemptionInvalid", "remedy", "controls", "usersNotExamined", "keysNotExamined", "complete", "power",
}

// CSV writes the report as RFC 4180 has it: a header, then one row for each
// finding, exempt and resolved ones too, told apart by the column state. An empty
// cell is what JSON calls null. The columns usersNotExamined to complete say in
// every row how much of the account was not examined.
//
// Spreadsheets read some cells as formulas; such a cell begins with an apostrophe
// here, which is not part of its value.
func CSV(r audit.Report) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b) // a bytes.Buffer takes everything: no call on w can fail
	w.UseCRLF = true
	w.Write(header)
	for _, list := range [][]audit.Finding{r.Findings, r.Exempt, r.Resolved} {
		for _, f := range list {
			w.Write(cells(r.Summary, f))
		}
	}
	w.Flush()
	return b.Bytes()
}

// cells gives a finding's row.
func cells(s audit.Summary, f audit.Finding) []string {
	e := iamkeys.Exemption{}
	if f.Exemption != nil {
		e = *f.Exemption
	}
	return allInert([]string{
		s.Account, s.RunID, s.AsOf.UTC().Format(time.RFC3339), string(f.State), string(f.Severity), string(f.Rule), f.UserName, f.UserARN,
		value(f.AccessKeyID), string(value(f.Status)), instant(f.CreateDate), number(f.AgeDays),
		instant(f.LastUsedDate), boolean(f.NeverUsed), number(f.IdleDays), value(f.ServiceName), value(f.Region), value(f.Owner), instant(f.FirstSeen),
		e.Reason, e.Until, value(e.Invalid), f.Remedy, strings.Join(f.Controls, "; "),
		strconv.Itoa(s.Coverage.Users - s.Coverage.UsersExamined), strconv.Itoa(s.Coverage.Keys - s.Coverage.KeysExamined), strconv.FormatBool(s.Coverage.Complete), string(f.Power),
	})
}

func allInert(row []string) []string {
	for i := range row {
		row[i] = inert(row[i])
	}
	return row
}

// inert makes a cell of untrusted text that no spreadsheet takes for a formula:
// one that begins with = + - @, narrow or wide, after whatever a program may strip
// from its front. Where lists are separated by semicolons a program cuts cells at
// those, so what follows one counts as a beginning, too.
//
// https://owasp.org/www-community/attacks/CSV_Injection
func inert(s string) string {
	parts := strings.Split(clean(s), ";")
	for i, part := range parts {
		bare := strings.TrimLeftFunc(part, func(r rune) bool {
			return unicode.IsSpace(r) || r == '"' || r == '\'' || r == unicode.ReplacementChar
		})
		if strings.IndexAny(bare, "=+-@＝＋－＠﹦﹢﹣﹫−") == 0 {
			parts[i] = "'" + part
		}
	}
	return strings.Join(parts, ";")
}

// The rest give what may be null as a cell.

func value[T ~string](s *T) T {
	if s == nil {
		return ""
	}
	return *s
}

func instant(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func number(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}

func boolean(b *bool) string {
	if b == nil {
		return ""
	}
	return strconv.FormatBool(*b)
}
