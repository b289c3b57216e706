package notice

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
)

// mostListed is how many findings a section of a digest lists.
const mostListed = 200

// mail writes an owner's digest.
func (o Digest) mail(mine share, fresh map[string]bool, asOf time.Time) (subject, body string) {
	var b strings.Builder
	line := func(indent int, s string) {
		hanging := strings.Repeat(" ", indent)
		if indent > 0 {
			hanging += "  "
		}
		b.WriteString(Wrap(strings.Repeat(" ", indent), hanging, Printable(s)) + "\n")
	}
	heading := func(title string) {
		title = strings.ToUpper(title)
		fmt.Fprintf(&b, "\n%s\n%s\n", title, strings.Repeat("-", len(title)))
	}
	worstFirst := func(a, b found) int {
		return cmp.Or(cmp.Compare(slices.Index(audit.Severities, a.Severity), slices.Index(audit.Severities, b.Severity)),
			cmp.Compare(slices.Index(iamkeys.Powers, a.Power), slices.Index(iamkeys.Powers, b.Power)), cmp.Compare(a.in, b.in), cmp.Compare(a.UserName, b.UserName), cmp.Compare(a.Rule, b.Rule))
	}
	section := func(title string, all []found, remedy bool) {
		if len(all) == 0 {
			return
		}
		slices.SortStableFunc(all, worstFirst)
		heading(title + ": " + Count(len(all)))
		for _, f := range all[:min(len(all), mostListed)] {
			line(0, fmt.Sprintf("%s: %s (%s)", f.key(), f.what(), f.Severity))
			line(2, "in account "+f.in)
			if remedy {
				line(2, f.Remedy)
			}
		}
		if n := len(all) - mostListed; n > 0 {
			line(0, "and "+Count(n)+" more")
		}
	}
	var recent, rest, due []found
	for _, f := range mine.open {
		if fresh[f.id()] {
			recent = append(recent, f)
		} else {
			rest = append(rest, f)
		}
		if !f.due.IsZero() {
			due = append(due, f)
		}
	}
	due = append(due, mine.exempt...)
	news := Several(len(recent), "new finding")
	line(0, fmt.Sprintf("%s of IAM access keys that you own, %s open in all.", news, Count(len(mine.open))))
	line(0, "As of "+Moment(asOf)+".")
	section("new", recent, true)
	section("still open", rest, false)
	if len(due) > 0 {
		slices.SortStableFunc(due, func(a, b found) int { return cmp.Or(a.due.Compare(b.due), worstFirst(a, b)) })
		heading(fmt.Sprintf("due within %d days", dueDays))
		for _, f := range due[:min(len(due), mostListed)] {
			what := "overdue for rotation"
			if f.State == audit.Exempt {
				what = "the exemption has ended: " + f.what()
			}
			line(0, fmt.Sprintf("%s  %s: %s", Date(f.due), f.key(), what))
			line(2, "in account "+f.in)
		}
	}
	fmt.Fprintf(&b, "\n%s\n", Wrap("", "", fmt.Sprintf("You get this mail because the tag %s of these IAM users is your address. What is not new to you comes again only beside something that is.", Printable(o.OwnerTag))))
	return fmt.Sprintf("IAM access keys: %s, %s open in all", news, Count(len(mine.open))), b.String()
}

// key names a finding's user and key.
func (f found) key() string {
	if f.AccessKeyID != nil {
		return f.UserName + ", " + *f.AccessKeyID
	}
	return f.UserName
}

// what says what is wrong, in the middle of a sentence.
func (f found) what() string {
	r, ok := audit.RuleOf(f.Rule)
	if !ok {
		return string(f.Rule)
	}
	s := r.What(f.Finding)
	return strings.ToLower(s[:1]) + s[1:]
}

// teamMessage writes the security team's digest, with as many users as it holds.
func (o Digest) teamMessage(d *digest, fresh int) iamkeys.Message {
	users := slices.SortedFunc(maps.Values(d.unowned), func(a, b *userless) int {
		return cmp.Or(cmp.Compare(slices.Index(audit.Severities, a.Severity), slices.Index(audit.Severities, b.Severity)), cmp.Compare(a.Account, b.Account), cmp.Compare(a.UserName, b.UserName))
	})
	slices.SortFunc(d.failed, func(a, b failedMail) int { return cmp.Compare(a.Owner, b.Owner) })
	headline := Several(len(users), "user") + " without an owner who gets mail"
	if n := len(d.failed); n > 0 {
		headline += ", " + Several(n, "mail") + " failed"
	}
	return fit(max(len(users), len(d.failed)), func(most int) iamkeys.Message {
		some, lost := users[:min(most, len(users))], d.failed[:min(most, len(d.failed))]
		todo := []paragraph{say("The owner of a user is named by its tag %s: one mail address in the domains of the stack's parameter OwnerMailDomains. Owners are told of their keys by mail, each time that something is new.", o.OwnerTag)}
		for _, u := range some {
			who := say("%s in account %s has %s (%s), and no owner tag.", u.UserName, u.Account, Several(u.Findings, "finding"), u.Severity)
			if u.Owner != nil {
				who = say("%s in account %s has %s (%s), and its owner tag is no such address: %s.", u.UserName, u.Account, Several(u.Findings, "finding"), u.Severity, *u.Owner)
			}
			todo = append(todo, who, paste("aws", "iam", "tag-user", "--user-name", u.UserName, "--tags", "Key="+o.OwnerTag+",Value=NAME@"+firstOf(o.Send.Owners.Domains)))
		}
		var said []paragraph
		for _, f := range lost {
			said = append(said, say("The mail to %s failed (%s). It is tried again with the next run.", f.Owner, f.Error))
		}
		omitted := len(users) - len(some) + len(d.failed) - len(lost)
		if omitted > 0 {
			todo = append(todo, say("%s more, in the reports of the accounts.", Count(omitted)))
		}
		var b strings.Builder
		fmt.Fprintf(&b, "%s.\n", Capital(headline))
		for _, p := range slices.Concat(said, todo) {
			b.WriteString("\n" + p.mail() + "\n")
		}
		content, _ := json.Marshal(struct {
			Kind    Kind         `json:"kind"`
			RunID   string       `json:"runId"`
			AsOf    time.Time    `json:"asOf"`
			New     int          `json:"new"` // users that it was not told of before
			Unowned []*userless  `json:"unowned"`
			Failed  []failedMail `json:"failed"`
			Omitted int          `json:"omitted"`
		}{KindDigest, d.runID, d.asOf, fresh, append([]*userless{}, some...), append([]failedMail{}, lost...), omitted}) // strings, numbers and times always marshal
		m := iamkeys.Message{
			Subject: subject("IAM access keys: " + headline), Text: b.String(), JSON: content,
			Brief: strings.Join(append([]string{Capital(headline) + "."}, lines(said)...), "\n"), NextSteps: lines(todo),
			Attributes: []iamkeys.Attribute{{Name: "kind", Value: string(KindDigest)}, {Name: "new", Value: fmt.Sprint(fresh), Number: true}},
		}
		if d.of != "organization" {
			m.Attributes = append(m.Attributes, iamkeys.Attribute{Name: "account", Value: d.of})
		}
		return m
	})
}

func firstOf(domains []string) string {
	if len(domains) == 0 {
		return "example.com"
	}
	return domains[0]
}
