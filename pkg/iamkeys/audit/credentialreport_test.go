package audit

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
)

// now is when the tests read the credential reports in testdata.
var now = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

var captures = []string{"plain.csv", "documented.csv", "additional.csv", "reordered.csv", "noroot.csv", "rootname.csv"}

func capture(t testing.TB, name string) []byte {
	content, err := os.ReadFile("testdata/credentialreport/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// said writes a row the way the tests compare it.
func said(row reportRow) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", row.created.Format(time.RFC3339))
	for _, k := range row.keys {
		fmt.Fprintf(&b, " | %s %s", k.Status, k.CreateDate.Format(time.RFC3339))
		if k.LastUsed == nil {
			b.WriteString(" unknown")
		} else {
			fmt.Fprintf(&b, " %s", k.LastUsed)
			if k.LastUsed.Never() {
				b.WriteString(k.LastUsed.ServiceName + k.LastUsed.Region) // nothing
			}
		}
	}
	if row.additional > 0 {
		fmt.Fprintf(&b, " | %d more", row.additional)
	}
	return b.String()
}

func all(rows map[string]reportRow) map[string]string {
	result := map[string]string{}
	for arn, row := range rows {
		result[strings.TrimPrefix(arn, "arn:aws:iam::123456789012:user")] = said(row)
	}
	return result
}

// plain is what every capture says that tells of the same account.
var plain = map[string]string{
	"/alice":              "2024-02-29T23:59:59Z",
	"/ci/Bob":             "2025-01-02T03:04:05Z | Active 2026-06-01T00:00:00Z last used 2026-11-23T08:45:00Z by s3 | Inactive 2026-01-01T12:00:00Z never used",
	"/ci/carol":           "2026-09-11T13:14:49Z | Active 2026-09-11T13:14:50Z never used | Inactive 2026-09-11T13:14:50Z never used",
	"/a,b/d,e=f+g.h@i_j-": "2026-10-10T10:10:10Z | Active 2026-10-10T10:10:11Z last used 2026-11-01T00:00:00Z by ec2 in eu-west-1",
	"/zoe":                "2026-11-20T20:20:20Z | Active 2026-11-20T20:20:21Z never used",
}

func TestCredentialReport(t *testing.T) {
	extra := maps.Clone(plain)
	extra["/ci/Bob"] += " | 3 more"
	tests := map[string]struct {
		users map[string]string
		root  string // "" when the row is missing
	}{
		"plain.csv":      {plain, "2014-05-06T07:08:09Z"},
		"documented.csv": {plain, "2014-05-06T07:08:09Z"}, // TRUE and FALSE, +00:00, CRLF, a final line break, more not_supported
		"additional.csv": {extra, "2014-05-06T07:08:09Z | Active 2020-01-01T00:00:00Z last used 2026-11-01T00:00:00Z by iam in us-east-1 | Inactive 2019-01-01T00:00:00Z never used"},
		"reordered.csv":  {extra, "2014-05-06T07:08:09Z"}, // and columns that do not exist yet
		"noroot.csv":     {plain, ""},
		"rootname.csv":   {plain, "2014-05-06T07:08:09Z"}, // another name, and not the first row
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			rows, root, err := parseCredentialReport(capture(t, name), now)
			if err != nil {
				t.Fatal(err)
			}
			if got := all(rows); !maps.Equal(got, test.users) {
				t.Errorf("users\n got %v\nwant %v", got, test.users)
			}
			got := ""
			if root != nil {
				got = said(*root)
				if root.arn != "arn:aws:iam::123456789012:root" {
					t.Errorf("root's ARN is %s", root.arn)
				}
			}
			if got != test.root {
				t.Errorf("root\n got %q\nwant %q", got, test.root)
			}
		})
	}
}

// TestCredentialReportCells changes single cells of zoe's row, whose key is
// Active, made at 2026-11-20T20:20:21Z and never used.
func TestCredentialReportCells(t *testing.T) {
	const unreadable = ""
	zoe := plain["/zoe"]
	tests := []struct{ column, cell, want string }{
		{"access_key_1_active", "TRUE", zoe},
		{"access_key_1_active", "True", zoe},
		{"access_key_1_active", "false", strings.Replace(zoe, "Active", "Inactive", 1)},
		{"access_key_1_active", "N/A", unreadable},
		{"access_key_1_active", "", unreadable},
		{"access_key_1_active", "yes", unreadable},
		{"access_key_1_last_rotated", "2026-11-20T20:20:21+00:00", zoe},
		{"access_key_1_last_rotated", "2026-11-20T22:20:21+02:00", zoe},
		{"access_key_1_last_rotated", "N/A", unreadable}, // an Active key without a date
		{"access_key_1_last_rotated", "", unreadable},
		{"access_key_1_last_rotated", "no_information", unreadable},
		{"access_key_1_last_rotated", "not_supported", unreadable},
		{"access_key_1_last_rotated", "2026-11-20", unreadable},
		{"access_key_1_last_rotated", "2026-11-20T20:20:21", unreadable},
		{"access_key_1_last_rotated", "2026-11-31T20:20:21Z", unreadable},
		{"access_key_1_last_rotated", "2026-11-20T2:20:21Z", unreadable}, // a digit is lost
		{"access_key_1_last_rotated", "0001-01-01T00:00:00Z", unreadable},
		{"access_key_1_last_rotated", "2026-11-23T10:00:00Z", strings.Replace(zoe, "2026-11-20T20:20:21Z", "2026-11-23T10:00:00Z", 1)}, // clocks differ
		{"access_key_1_last_rotated", "2026-11-23T10:00:01Z", unreadable},
		{"access_key_1_last_rotated", "9026-11-20T20:20:21Z", unreadable},
		{"access_key_1_last_used_date", "", unreadable},               // says nothing, so not that the key was never used
		{"access_key_1_last_used_date", "no_information", unreadable}, // the same
		{"access_key_1_last_used_date", "not_supported", unreadable},  // the same
		{"access_key_1_last_used_date", "n/a", unreadable},
		{"access_key_1_last_used_date", "0001-01-01T00:00:00Z", unreadable},
		{"access_key_1_last_used_date", "yesterday", unreadable},
		{"access_key_1_last_used_date", "9026-11-20T20:20:21Z", unreadable},
		{"access_key_1_last_used_date", "2026-11-21T00:00:00Z", strings.Replace(zoe, "never used", "last used 2026-11-21T00:00:00Z", 1)},
		{"access_key_1_last_used_region", "eu-west-1", zoe},  // of a key never used: nothing
		{"access_key_1_last_used_service", "s3", unreadable}, // used, and not said when
		{"access_key_2_active", "true", unreadable},          // a key without a date
		{"access_key_2_active", "", unreadable},
		{"access_key_2_last_rotated", "", unreadable}, // lost, or no key?
		{"access_key_2_last_rotated", "no_information", unreadable},
		{"access_key_2_last_rotated", "not_supported", unreadable},
		{"access_key_2_last_rotated", "x", unreadable},
		{"access_key_2_last_used_date", "", unreadable},
		{"access_key_2_last_used_region", "", zoe},
		{"access_key_2_last_used_date", "2026-11-21T00:00:00Z", unreadable}, // a key without a date
		{"user_creation_time", "", unreadable},
		{"user_creation_time", "N/A", unreadable},
		{"user_creation_time", "2026", unreadable},
		{"user", "zo", unreadable},
		{"arn", "arn:aws:iam::123456789012:user/zo", unreadable},
		{"arn", "arn:aws:iam::123456789012:role/zoe", unreadable},
		{"arn", "zoe", unreadable},
		{"arn", "", unreadable},
		{"password_enabled", "what is this", zoe},
		{"password_last_used", "no_information", zoe},
	}
	for _, test := range tests {
		t.Run(test.column+"="+test.cell, func(t *testing.T) {
			lines := strings.Split(string(capture(t, "plain.csv")), "\n")
			names := strings.Split(lines[0], ",")
			last := strings.Split(lines[len(lines)-1], ",")
			last[slices.Index(names, test.column)] = test.cell
			// once as the last row, once before another
			for i, content := range []string{
				strings.Join(append(lines[:len(lines)-1:len(lines)-1], strings.Join(last, ",")), "\n"),
				strings.Join(slices.Insert(slices.Clone(lines[:len(lines)-1]), 1, strings.Join(last, ",")), "\n"),
			} {
				rows, root, err := parseCredentialReport([]byte(content), now)
				if err != nil {
					t.Fatal(err)
				}
				want := maps.Clone(plain)
				delete(want, "/zoe")
				if test.want != unreadable {
					want["/zoe"] = test.want
				}
				if got := all(rows); !maps.Equal(got, want) || root == nil {
					t.Errorf("%d: got %v, root %v\nwant %v and root", i, got, root, want)
				}
			}
		})
	}
}

// TestCredentialReportAdditional reads the column that is there only when some
// user has more than two keys.
func TestCredentialReportAdditional(t *testing.T) {
	for cell, want := range map[string]int{"N/A": 0, "": 0, "0": 0, "1": 1, "12": 12, "-1": -1, "many": -1, "1.5": -1} {
		content := strings.Replace(string(capture(t, "additional.csv")), ",3\n", ","+cell+"\n", 1)
		for _, content := range []string{content, strings.ReplaceAll(content, "\n", "\r\n")} {
			rows, _, err := parseCredentialReport([]byte(content), now)
			if err != nil {
				t.Fatal(err)
			}
			row, ok := rows["arn:aws:iam::123456789012:user/ci/Bob"]
			if ok != (want >= 0) || ok && row.additional != want {
				t.Errorf("%q: got %d, %v; want %d", cell, row.additional, ok, want)
			}
		}
	}
}

// TestCredentialReportGarbage: lines that make no sense, and users that stand
// twice, are left out; the rest is read.
func TestCredentialReportGarbage(t *testing.T) {
	content := string(capture(t, "plain.csv"))
	lines := strings.SplitAfter(content, "\n")
	zoe := lines[len(lines)-1]
	zoeGone := maps.Clone(plain)
	delete(zoeGone, "/zoe")
	for name, test := range map[string]struct {
		content string
		want    map[string]string
	}{
		"empty lines":                {strings.ReplaceAll(content, "\n", "\n\n"), plain},
		"noise":                      {content + "\n" + strings.Repeat("\x00\xff,", 21) + "\n<html>\n" + strings.Repeat(",", 21), plain},
		"open quote":                 {strings.Replace(content, "\nzoe,", "\n\"zoe,", 1), zoeGone},
		"quote swallows no next row": {strings.Replace(content, "\n", "\n\"\n", 1), plain},
		"cell too many":              {content + ",N/A", zoeGone},
		"cell too few":               {strings.TrimSuffix(content, ",N/A"), zoeGone},
		"row twice":                  {content + "\n" + zoe, zoeGone},
		"row twice, one unreadable":  {content + "\n" + strings.Replace(zoe, "true", "what", 1), zoeGone},
		"same, the other first":      {strings.Replace(content, "\nzoe", "\n"+strings.Replace(zoe, "true", "what", 1)+"\nzoe", 1), zoeGone},
		"row twice, one cut off":     {strings.TrimSuffix(content+"\n"+zoe, "N/A"), zoeGone},
		"row three times":            {content + "\n" + zoe + "\n" + zoe, zoeGone},
		"byte order mark":            {"\ufeff" + content, plain},
		"nothing in other words":     {strings.ReplaceAll(content, "false,N/A,N/A,N/A,N/A,false", "false,,,,,false"), plain},
	} {
		t.Run(name, func(t *testing.T) {
			rows, root, err := parseCredentialReport([]byte(test.content), now)
			if err != nil || root == nil {
				t.Fatalf("root %v, %v", root, err)
			}
			if got := all(rows); !maps.Equal(got, test.want) {
				t.Errorf("got %v\nwant %v", got, test.want)
			}
		})
	}
	for name, content := range map[string]string{
		"root row twice":      content + "\n" + lines[1],
		"root row unreadable": strings.Replace(content, "true,false,N/A,N/A,N/A,N/A,false", "true,not_supported,N/A,N/A,N/A,N/A,false", 1),
	} {
		if rows, root, err := parseCredentialReport([]byte(content), now); err != nil || root != nil || !maps.Equal(all(rows), plain) {
			t.Errorf("%s: got root %v, rows %v, %v; want the root user left out", name, root, all(rows), err)
		}
	}
}

// TestCredentialReportHeader: without a header to go by there is no report.
func TestCredentialReportHeader(t *testing.T) {
	content := string(capture(t, "plain.csv"))
	header, rows, _ := strings.Cut(content, "\n")
	tests := map[string]string{"nothing": "", "a line break": "\n", "rows only": rows, "header twice in one": header + "," + header + "\n" + rows, "open quote": `"` + content}
	for _, name := range strings.Split(header, ",") {
		if slices.Contains([]string{"user", "arn", "user_creation_time"}, name) || strings.HasPrefix(name, "access_key") {
			tests["without "+name] = strings.Replace(content, name, "something_else", 1)
		}
	}
	if len(tests) != 5+3+10 {
		t.Fatalf("the header has other columns: %s", header)
	}
	for name, content := range tests {
		if rows, root, err := parseCredentialReport([]byte(content), now); err == nil {
			t.Errorf("%s: got %v and root %v, want an error", name, rows, root)
		}
	}
	if rows, root, err := parseCredentialReport([]byte(header), now); len(rows) > 0 || root != nil || err != nil {
		t.Errorf("header only: got %v, %v, %v; want no rows", rows, root, err)
	}
	if rows, _, err := parseCredentialReport([]byte(strings.ToUpper(header)+"\n"+rows), now); err != nil || len(rows) != len(plain) {
		t.Errorf("upper case: got %v, %v", rows, err)
	}
}

// TestCredentialReportCut cuts every capture after each byte, then one of them
// with each column in turn as the last. What is read from the rest is what the
// whole says, so nobody becomes healthier by the cut.
func TestCredentialReportCut(t *testing.T) {
	cut := func(name string, content []byte) {
		unsafe := cutter(content)
		for n := range content {
			if err := unsafe(n); err != nil {
				t.Errorf("%s cut after %d bytes: %v", name, n, err)
			}
		}
	}
	for _, name := range captures {
		cut(name, capture(t, name))
	}
	table, err := csv.NewReader(bytes.NewReader(capture(t, "additional.csv"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	table = slices.Concat(table[:1], table[3:4], table[5:6], table[2:3]) // Bob, who has five keys, is the last
	for last, name := range table[0] {
		var b bytes.Buffer
		w := csv.NewWriter(&b)
		for _, line := range table {
			_ = w.Write(append(slices.Delete(slices.Clone(line), last, last+1), line[last]))
		}
		w.Flush()
		cut(name, b.Bytes())
	}
}

// cutter gives a function that reports what a report of which only the first n
// bytes arrived says otherwise than the whole.
func cutter(content []byte) func(n int) error {
	rows, root, err := parseCredentialReport(content, now)
	if err != nil {
		return func(int) error { return nil }
	}
	if root != nil {
		rows[root.arn] = *root
	}
	return func(n int) error {
		cut, root, err := parseCredentialReport(content[:n], now)
		if err != nil {
			return nil
		}
		if root != nil {
			cut[root.arn] = *root
		}
		for arn, row := range cut {
			whole, ok := rows[arn]
			if !ok {
				name := arn
				if row.root {
					name = ":root" // there is one, whatever its ARN
				}
				if bytes.Count(content, []byte(name)) > 1 || tooLong(content, arn) {
					continue // in the whole it stands twice, or has more cells than the header
				}
				return fmt.Errorf("%s is readable only when cut: %s", arn, said(row))
			}
			if got, want := health(row), health(whole); got != want {
				return fmt.Errorf("%s says %s; the whole says %s", arn, got, want)
			}
		}
		return nil
	}
}

// tooLong reports whether the line of that ARN has more cells than the header.
func tooLong(content []byte, arn string) bool {
	header, rest, _ := bytes.Cut(content, []byte("\n"))
	names, _ := cells(header)
	for line := range bytes.Lines(rest) {
		if c, err := cells(line); bytes.Contains(line, []byte(arn)) && (err != nil || len(c) > len(names)) {
			return true
		}
	}
	return false
}

// health is what of a row decides over findings.
func health(row reportRow) string {
	var b strings.Builder
	for _, k := range row.keys {
		fmt.Fprintf(&b, "%s %s %s; ", k.Status, k.CreateDate, k.LastUsed.Date)
	}
	fmt.Fprintf(&b, "more: %v", row.additional > 0)
	return b.String()
}

// FuzzCredentialReport: whatever arrives, what is read stands in a line of its
// own, complete and without contradiction, and a cut makes nobody healthier.
func FuzzCredentialReport(f *testing.F) {
	for _, name := range captures {
		content := capture(f, name)
		f.Add(content, len(content)-7)
	}
	f.Fuzz(func(t *testing.T, content []byte, n int) {
		rows, root, err := parseCredentialReport(content, now)
		if err != nil {
			return
		}
		header, _, _ := bytes.Cut(bytes.TrimPrefix(content, []byte("\ufeff")), []byte("\n"))
		names, _ := cells(header)
		for i := range names {
			names[i] = strings.ToLower(strings.TrimSpace(names[i]))
		}
		found := map[string][]map[string]string{} // ARN → its lines, read another way
		for _, line := range strings.Split(string(content), "\n")[1:] {
			r := csv.NewReader(strings.NewReader(strings.TrimRight(line, "\r")))
			r.LazyQuotes = !strings.Contains(line, `"`)
			c, err := r.Read()
			if err != nil || len(c) != len(names) {
				continue
			}
			row := map[string]string{}
			for i, cell := range c {
				row[names[i]] = cell
			}
			found[row["arn"]] = append(found[row["arn"]], row)
		}
		if root != nil {
			rows[root.arn] = *root
		}
		for arn, row := range rows {
			if row.arn != arn || len(found[arn]) != 1 {
				t.Fatalf("%q stands in %d lines", arn, len(found[arn]))
			}
			line := found[arn][0]
			if !row.root && (row.created.IsZero() || !strings.HasSuffix(arn, "/"+line["user"]) || !strings.Contains(arn, ":user/")) {
				t.Errorf("%q is no user's: %v", arn, row)
			}
			filled := 0
			for _, slot := range []string{"access_key_1_", "access_key_2_"} {
				active := strings.EqualFold(line[slot+"active"], "true")
				if !active && !strings.EqualFold(line[slot+"active"], "false") {
					t.Errorf("%q: slot %s is neither active nor inactive: %q", arn, slot, line[slot+"active"])
				}
				rotated, err := time.Parse(time.RFC3339, line[slot+"last_rotated"])
				if err != nil || rotated.IsZero() {
					if active {
						t.Errorf("%q: slot %s is active and has no date", arn, slot)
					}
					continue
				}
				if filled++; filled > len(row.keys) {
					t.Fatalf("%q: the key of slot %s is missing: %v", arn, slot, line)
				}
				k := row.keys[filled-1]
				if (k.Status == iamkeys.Active) != active || !k.CreateDate.Equal(rotated) || k.CreateDate.After(now.Add(reportSkew)) {
					t.Errorf("%q: slot %s is read as %+v: %v", arn, slot, k, line)
				}
				switch used, err := time.Parse(time.RFC3339, line[slot+"last_used_date"]); {
				case k.LastUsed == nil:
					t.Errorf("%q: slot %s: last use is missing", arn, slot)
				case k.LastUsed.Never() && line[slot+"last_used_date"] != "N/A":
					t.Errorf("%q: slot %s: %q is read as never used", arn, slot, line[slot+"last_used_date"])
				case !k.LastUsed.Never() && (err != nil || !used.Equal(k.LastUsed.Date) || used.After(now.Add(reportSkew))):
					t.Errorf("%q: slot %s: %q is read as %s", arn, slot, line[slot+"last_used_date"], k.LastUsed.Date)
				}
			}
			if filled != len(row.keys) {
				t.Errorf("%q: %d keys, the line has %d: %v", arn, len(row.keys), filled, line)
			}
		}
		if n >= 0 && n <= len(content) {
			if err := cutter(content)(n); err != nil {
				t.Error(err)
			}
		}
	})
}
