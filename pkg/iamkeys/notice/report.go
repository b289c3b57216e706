package notice

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
)

// mailLimit is how many findings a mail shows at most; more is for the stored report.
const mailLimit = 100

// Report gives what makes an audit's report, stored at where, fit for SNS: as many
// findings as its size allows. text gives the mail, as render.Text does.
func Report(text func(r audit.Report, where string, limit int) []byte) func(r audit.Report, where string) iamkeys.Message {
	return func(r audit.Report, where string) iamkeys.Message {
		severity := "none"
		if h := r.Highest(); h != "" {
			severity = string(h)
		}
		return fit(max(len(r.Findings), len(r.Exempt), len(r.Resolved)), func(most int) iamkeys.Message {
			cut := r
			cut.Findings, cut.Exempt, cut.Resolved = head(r.Findings, most), head(r.Exempt, most), head(r.Resolved, most)
			omitted := len(r.Findings) + len(r.Exempt) + len(r.Resolved) - len(cut.Findings) - len(cut.Exempt) - len(cut.Resolved)
			cut.Omitted = &omitted
			content, _ := json.Marshal(cut) // it was marshalled before, when it was stored
			return iamkeys.Message{
				Subject:   subject(fmt.Sprintf("IAM access keys %s: %s", r.Summary.Account, Headline(r.Summary))),
				Text:      string(text(r, where, min(max(most, 1), mailLimit))),
				JSON:      content,
				Brief:     inBrief(r),
				NextSteps: nextSteps(r.Findings, where),
				Attributes: []iamkeys.Attribute{
					{Name: "kind", Value: "audit"},
					{Name: "severity", Value: severity},
					{Name: "account", Value: r.Summary.Account},
					{Name: "new", Value: strconv.Itoa(r.Summary.New), Number: true},
					{Name: "findings", Value: strconv.Itoa(len(r.Findings)), Number: true},
				},
			}
		})
	}
}

// mentioned is how many findings a chat names.
const mentioned = 10

// told gives the findings that a chat names: the new ones, else the open ones, worst first.
func told(all []audit.Finding) []audit.Finding {
	fresh := slices.DeleteFunc(slices.Clone(all), func(f audit.Finding) bool { return f.State != audit.New })
	if len(fresh) == 0 {
		fresh = all
	}
	return head(fresh, mentioned)
}

// inBrief is the report as a chat has it.
func inBrief(r audit.Report) string {
	lines := []string{Capital(Headline(r.Summary)) + "."}
	for _, f := range told(r.Findings) {
		lines = append(lines, mention(f))
	}
	if n := len(r.Findings) - len(lines) + 1; n > 0 {
		lines = append(lines, Count(n)+" more.")
	}
	return strings.Join(lines, "\n")
}

// mention is a finding as a chat has it.
func mention(f audit.Finding) string {
	line := Printable(f.UserName)
	if f.AccessKeyID != nil {
		line += ", " + Printable(*f.AccessKeyID)
	}
	return fmt.Sprintf("%s: %s, %s, %s", line, f.Rule, f.Severity, f.State)
}

// nextSteps are the remedies of what a chat names, and where the whole report is.
func nextSteps(all []audit.Finding, where string) (steps []string) {
	for _, f := range told(all) {
		if !slices.Contains(steps, f.Remedy) {
			steps = append(steps, f.Remedy)
		}
	}
	return append(steps[:min(5, len(steps))], "Read the whole report: "+where+".html")
}

func head(findings []audit.Finding, most int) []audit.Finding {
	return findings[:min(most, len(findings))]
}

// Headline says in a few words what the report comes to, first what is missing in it.
func Headline(s audit.Summary) string {
	var said []string
	if c := s.Coverage; !c.Complete {
		missing := "the root user"
		if n := c.Users - c.UsersExamined; n > 0 {
			missing = fmt.Sprintf("%s of %s", Count(n), Several(c.Users, "user"))
		} else if n := c.Keys - c.KeysExamined; n > 0 {
			missing = fmt.Sprintf("%s of %s", Count(n), Several(c.Keys, "access key"))
		}
		said = append(said, "INCOMPLETE, without "+missing)
	}
	switch n := s.New + s.Open; {
	case n > 0:
		said = append(said, fmt.Sprintf("%s (%s new, %s critical, %s high)", Several(n, "finding"), Count(s.New), Count(s.Severities.Critical), Count(s.Severities.High)))
	case s.Coverage.Users == 0:
		said = append(said, "no users")
	case s.Coverage.Complete:
		said = append(said, "no findings")
	}
	return strings.Join(said, "; ")
}

// Coverage says what was examined and what was not.
func Coverage(c audit.Coverage) string {
	if c.Complete {
		if c.Users == 0 {
			return "The account has no IAM users; the root user was examined."
		}
		return fmt.Sprintf("Complete: %s, %s, and the root user.", Several(c.Users, "user"), Several(c.Keys, "access key"))
	}
	if c.UsersExamined == c.Users && c.KeysExamined == c.Keys {
		return fmt.Sprintf("Incomplete: the root user was not examined; %s and %s were.", Several(c.Users, "user"), Several(c.Keys, "access key"))
	}
	return fmt.Sprintf("Incomplete: %s of %s and %s of %s known were not examined.",
		Count(c.Users-c.UsersExamined), Several(c.Users, "user"), Count(c.Keys-c.KeysExamined), Several(c.Keys, "access key"))
}
