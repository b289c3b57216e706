package notice

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
)

// ofDue is what the scheduled rotation would start, or has started.
func ofDue(d audit.DueOutput) matter {
	var nominated, skipped []string
	for _, r := range d.Rotations {
		nominated = append(nominated, fmt.Sprintf("%s  %s  %s old%s", Printable(r.AccessKeyID), Printable(r.UserName), Several(r.AgeDays, "day"), owned(r.Owner)), "    "+Printable(r.SecretID))
	}
	for _, s := range d.Skipped {
		line := Printable(s.UserName) + ": " + Printable(string(s.Reason))
		if s.Date != nil {
			line += " (to be retired from " + Date(*s.Date) + ")"
		}
		skipped = append(skipped, line)
	}
	return nomination(due, len(d.Rotations), nominated, "Skipped, though they opted in:", counts(d.SkippedCounts), skipped, d.Coverage, "more may be due")
}

// ofUnused is what the scheduled retirement would start, or has started.
func ofUnused(u audit.UnusedOutput) matter {
	var nominated, skipped []string
	for _, r := range u.Retirements {
		nominated = append(nominated, fmt.Sprintf("%s  %s  unused for %s%s", Printable(r.AccessKeyID), Printable(r.UserName), Several(r.IdleDays, "day"), owned(r.Owner)))
		if r.Power != iamkeys.NoPower {
			nominated = append(nominated, "    "+powerful(r.Power))
		}
	}
	for _, s := range u.Skipped {
		line := Printable(s.UserName)
		if s.AccessKeyID != "" { // its keys could be read
			line += ", " + Printable(s.AccessKeyID)
		}
		line += ": " + Printable(string(s.Reason))
		if s.Date != nil {
			line += " (" + Date(*s.Date) + ")"
		}
		skipped = append(skipped, line)
	}
	return nomination(unused, len(u.Retirements), nominated, "Skipped, though they are unused:", counts(u.SkippedCounts), skipped, u.Coverage, "more may be unused")
}

// nomination is a list of what a schedule nominated and of what it passed over.
func nomination(of way, count int, nominated []string, heading string, reasons, skipped []string, c audit.Coverage, more string) matter {
	return matter{of: of, count: count, check: func(Stage) error { return nil }, list: func() []string {
		written := nominated
		if len(reasons) > 0 {
			written = append(written, "", heading)
			for _, r := range reasons {
				written = append(written, "  "+r)
			}
			if len(skipped) > 0 {
				written = append(written, "")
			}
			for _, s := range skipped {
				written = append(written, "    "+s)
			}
		}
		if !c.Complete {
			written = append(written, "", Wrap("", "", Coverage(c)+" "+Capital(more)+"."))
		}
		return written
	}}
}

// counts gives a line for each reason, in the order of the alphabet.
func counts(all map[audit.SkipReason]int) (written []string) {
	for _, why := range slices.Sorted(maps.Keys(all)) {
		written = append(written, fmt.Sprintf("%-20s %d", Printable(string(why)), all[why]))
		for _, r := range audit.SkipReasons {
			if r.Reason == why {
				written = append(written, strings.Split(Wrap("    ", "    ", r.Means), "\n")...)
			}
		}
	}
	return written
}

func owned(owner *string) string {
	if owner == nil {
		return ""
	}
	return ", owner " + Printable(*owner)
}

func rotationsPlanned(situation) text {
	return text{
		said: paragraphs(say("The scheduled rotation is in plan mode: it has started nothing and changed nothing. These are the keys that it would rotate.")),
		todo: paragraphs(say("To let it, set the stack's parameter RotationMode to apply. To rotate one of them now, start an execution of the rotation's state machine, named by the key's ID, with the input {\"userName\": ...}. To keep one out, remove its user's tag %s.", iamkeys.TagRotate)),
	}
}

func rotationsStarted(situation) text {
	return text{
		said: paragraphs(say("The scheduled rotation starts these rotations now, one execution each, named by the old key. Each sends its own notices.")),
		todo: paragraphs(say("To stop one, stop its execution; until the old key is switched off, that changes nothing for its consumers.")),
	}
}

func retirementsPlanned(situation) text {
	return text{
		said: paragraphs(say("The scheduled retirement is in plan mode: it has started nothing, warned nobody and changed nothing. These are the unused keys whose owners it would warn.")),
		todo: paragraphs(say("To let it, set the stack's parameter RetirementMode to apply: each key is then warned of twice before it is switched off. To keep one out, use it, or exempt its user by the tags %s and %s.", iamkeys.TagExemptUntil, iamkeys.TagExemptReason)),
	}
}

func retirementsStarted(situation) text {
	return text{
		said: paragraphs(say("The scheduled retirement starts these retirements now, one execution each, named retire- and the key. Each warns twice before its key is switched off.")),
		todo: paragraphs(say("To stop one, use the key, or exempt its user by the tags %s and %s. To stop them all, set the stack's parameter RetirementMode to plan or off.", iamkeys.TagExemptUntil, iamkeys.TagExemptReason)),
	}
}
