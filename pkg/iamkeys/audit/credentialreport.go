package audit

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"
	"time"

	"iamkeys/pkg/iamkeys"
)

// A reportRow is what the credential report says of one user.
type reportRow struct {
	arn        string
	root       bool
	created    time.Time  // of the user; zero for the root user
	keys       []KeyFacts // without IDs, which the credential report does not have
	additional int        // keys beyond its two slots
}

// keySlot holds the positions of one slot's columns.
type keySlot struct{ active, rotated, usedDate, usedRegion, usedService int }

// parseCredentialReport reads IAM's credential report, by header name, wherever
// the columns stand. Rows come by ARN; a row that cannot be read, or whose ARN
// stands twice, is left out, so that its user is examined live. now is when the
// report is read: a date after it cannot be. root is nil when the root user's row
// is missing or cannot be read. An error means that there is no header to go by.
//
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_getting-report.html
func parseCredentialReport(content []byte, now time.Time) (rows map[string]reportRow, root *reportRow, err error) {
	header, rest, _ := bytes.Cut(bytes.TrimPrefix(content, []byte("\ufeff")), []byte("\n"))
	names, err := cells(header)
	if err != nil {
		return nil, nil, fmt.Errorf("credential report: header: %w", err)
	}
	at := map[string]int{}
	for i, name := range names {
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := at[name]; twice {
			return nil, nil, fmt.Errorf("credential report: there are two columns %q", name)
		}
		at[name] = i
	}
	column := func(name string) int {
		i, ok := at[name]
		if !ok && err == nil {
			err = fmt.Errorf("credential report: there is no column %s", name)
		}
		return i
	}
	layout := reportLayout{user: column("user"), arn: column("arn"), created: column("user_creation_time"), additional: -1, latest: now.Add(reportSkew)}
	for i := range layout.slots {
		p := fmt.Sprintf("access_key_%d_", i+1)
		layout.slots[i] = keySlot{column(p + "active"), column(p + "last_rotated"), column(p + "last_used_date"), column(p + "last_used_region"), column(p + "last_used_service")}
	}
	if err != nil {
		return nil, nil, err
	}
	if i, ok := at["additional_credentials_info"]; ok { // there only when somebody has more than two keys
		layout.additional = i
	}

	rows = make(map[string]reportRow, bytes.Count(rest, []byte("\n"))+1)
	unreadable := map[string]bool{}
	for line := range bytes.Lines(rest) {
		c, err := cells(line)
		if err != nil || len(c) != len(names) {
			continue
		}
		cutOff := c[len(c)-1] == "" && !bytes.HasSuffix(line, []byte("\n")) // maybe, in its last cell
		row, err := layout.read(c)
		arn := row.arn
		if row.root {
			arn = ":root" // there is one
		}
		if _, again := rows[arn]; again || err != nil || cutOff {
			unreadable[arn] = true
			continue
		}
		rows[arn] = row
	}
	for arn := range unreadable {
		delete(rows, arn)
	}
	if row, ok := rows[":root"]; ok {
		root = &row
		delete(rows, ":root")
	}
	return rows, root, nil
}

// reportSkew is how far IAM's clock may be ahead of ours.
const reportSkew = time.Hour

// A reportLayout says where in a row things stand.
type reportLayout struct {
	user, arn, created int
	slots              [2]keySlot
	additional         int       // -1 when there is no such column
	latest             time.Time // no date is later
}

// read gives what the row says. A row that contradicts itself cannot be read.
func (l reportLayout) read(c []string) (row reportRow, err error) {
	row.arn, row.root = c[l.arn], strings.HasSuffix(c[l.arn], ":root")
	if _, path, ok := strings.Cut(row.arn, ":user/"); !row.root && (!ok || path[strings.LastIndex(path, "/")+1:] != c[l.user]) {
		return row, fmt.Errorf("ARN %q is not of user %q", row.arn, c[l.user])
	}
	if row.created, err = l.moment(c[l.created]); err != nil {
		return row, err
	}
	if row.created.IsZero() && !row.root {
		return row, fmt.Errorf("there is no creation time")
	}
	if l.additional >= 0 && !absent(c[l.additional]) {
		if row.additional, err = strconv.Atoi(c[l.additional]); err != nil || row.additional < 0 {
			return row, fmt.Errorf("%q is not a number of keys", c[l.additional])
		}
	}
	for _, slot := range l.slots {
		key, ok, err := l.key(slot, c)
		if err != nil {
			return row, err
		}
		if ok {
			row.keys = append(row.keys, key)
		}
	}
	return row, nil
}

// key gives the slot's key, and false when the slot is empty. Whatever leaves
// open when a key was made or used is an error: unknown is never "never used".
func (l reportLayout) key(s keySlot, c []string) (KeyFacts, bool, error) {
	active, err := flag(c[s.active])
	if err != nil {
		return KeyFacts{}, false, err
	}
	rotated, err := l.moment(c[s.rotated])
	if err != nil {
		return KeyFacts{}, false, err
	}
	used, err := l.moment(c[s.usedDate])
	if err != nil {
		return KeyFacts{}, false, err
	}
	if rotated.IsZero() {
		if active || !used.IsZero() || c[s.rotated] != c[s.usedDate] { // IAM says in one word that there is no key
			return KeyFacts{}, false, fmt.Errorf("a key without a date")
		}
		return KeyFacts{}, false, nil
	}
	if used.IsZero() && (c[s.usedDate] != "N/A" || !absent(c[s.usedService])) { // a use without its date is no "never used"
		return KeyFacts{}, false, fmt.Errorf("last use is %q, by %q", c[s.usedDate], c[s.usedService])
	}
	k := KeyFacts{AccessKey: iamkeys.AccessKey{Status: iamkeys.Inactive, CreateDate: rotated}, LastUsed: &iamkeys.LastUsed{Date: used}}
	if active {
		k.Status = iamkeys.Active
	}
	if !used.IsZero() {
		if v := c[s.usedService]; !absent(v) {
			k.LastUsed.ServiceName = v
		}
		if v := c[s.usedRegion]; !absent(v) {
			k.LastUsed.Region = v
		}
	}
	return k, true, nil
}

// cells splits one line. No cell of the credential report holds a line break,
// so a broken line cannot swallow the next one. User names may hold commas:
// those cells are quoted.
func cells(line []byte) ([]string, error) {
	s := strings.TrimRight(string(line), "\r\n")
	if !strings.Contains(s, `"`) {
		return strings.Split(s, ","), nil
	}
	return csv.NewReader(strings.NewReader(s)).Read()
}

// absent tells the cells by which IAM says that there is nothing.
func absent(cell string) bool {
	return cell == "" || cell == "N/A" || cell == "no_information" || cell == "not_supported"
}

func flag(cell string) (bool, error) {
	switch strings.ToLower(cell) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", cell)
}

// moment gives the zero time for a cell that says that there is none.
func (l reportLayout) moment(cell string) (time.Time, error) {
	if absent(cell) {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, cell)
	if err == nil && cell[len("2006-01-02T15")] != ':' { // time.Parse takes one digit for an hour
		err = fmt.Errorf("%q is no time", cell)
	}
	if err == nil && t.After(l.latest) {
		err = fmt.Errorf("%s lies in the future", cell)
	}
	return t.UTC(), err
}
