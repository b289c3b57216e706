package notice

import (
	"fmt"
	"maps"
	"slices"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
)

// ofDue is what the scheduled rotation would start, or has started.
func ofDue(d audit.DueOutput) matter {
	return matter{of: due, count: len(d.Rotations), check: func(Stage) error { return nil }, list: func() []string {
		var lines []string
		for _, r := range d.Rotations {
			lines = append(lines, fmt.Sprintf("%s  %s  %d days old%s", Printable(r.AccessKeyID), Printable(r.UserName), r.AgeDays, owned(r.Owner)), "    "+Printable(r.SecretID))
		}
		if len(d.SkippedCounts) > 0 {
			lines = append(lines, "", "Skipped, though they opted in:")
			for _, why := range slices.Sorted(maps.Keys(d.SkippedCounts)) {
				lines = append(lines, fmt.Sprintf("  %-20s %d", Printable(string(why)), d.SkippedCounts[why]))
			}
			for _, s := range d.Skipped {
				lines = append(lines, fmt.Sprintf("    %s: %s", Printable(s.UserName), Printable(string(s.Reason))))
			}
		}
		if c := d.Coverage; !c.Complete {
			lines = append(lines, "", fmt.Sprintf("INCOMPLETE: %d of %d users could not be examined; more may be due.", c.Users-c.UsersExamined, c.Users))
		}
		return lines
	}}
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
