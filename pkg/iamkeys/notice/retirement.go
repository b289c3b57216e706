package notice

import (
	"time"

	"iamkeys/pkg/iamkeys"
)

// A Retirement is what retire answered, passed on whole, with what the workflow has learnt since.
type Retirement struct {
	iamkeys.Retirement
	IdleSince *time.Time `json:"idleSince,omitempty"` // as deactivate answered, once the key is off
	Ours      *bool      `json:"ours,omitempty"`      // once it is off: whether this retirement switched it off
}

// What start is for a retirement: until the key is off it is [iamkeys.StartDeactivate].
const (
	ours                   = iamkeys.StartSoak // the retirement switched the key off
	notOurs  iamkeys.Start = "notOurs"         // it was off already
	notBegun               = iamkeys.StartDeactivate
)

// ofRetirement is one unused key on its way out.
func ofRetirement(r Retirement) matter {
	m := matter{of: retirement, userName: r.UserName, owner: value(r.Owner), start: notBegun}
	if r.SoakDays == 0 { // nothing was learnt of it
		m.start = unplanned
	}
	if r.Ours != nil {
		m.start = map[bool]iamkeys.Start{true: ours, false: notOurs}[*r.Ours]
	}
	m.check = func(stage Stage) error {
		if err := iamkeys.CheckUserName(r.UserName); err != nil {
			return err
		}
		if r.AccessKeyID == "" {
			return iamkeys.Refuse(iamkeys.InvalidInput, "retirement must have accessKeyId: the stage %s goes with what the retire function answered.", stage)
		}
		if stage == failed { // of which nothing may be known but what the execution was started with
			return nil
		}
		if err := iamkeys.CheckAccessKeyID("retirement.accessKeyId", r.AccessKeyID); err != nil {
			return err
		}
		return inRange(
			number{"retirement.idleDays", r.IdleDays, 36500}, number{"retirement.quietHours", r.QuietHours, mostDays * 24}, number{"retirement.noticeSeconds", r.NoticeSeconds, mostDays * 86400},
			number{"retirement.finalSeconds", r.FinalSeconds, mostDays * 86400}, number{"retirement.waitSeconds", r.WaitSeconds, mostDays * 86400}, number{"retirement.soakDays", r.SoakDays, mostDays})
	}
	m.facts = func(row row) []fact {
		facts := []fact{{"User", r.UserName}, {"Owner", Printable(value(r.Owner))}, {"Key", join(r.AccessKeyID, row.old)}}
		if m.start != unplanned {
			facts = append(facts, fact{"Unused", "for " + Several(r.IdleDays, "day")}, fact{"Power", powerful(r.Power)})
		}
		return facts
	}
	return m
}

// powers says what a user can do, by the policies that are attached to it or its groups.
var powers = map[iamkeys.Power]string{
	iamkeys.Admin:        "administrator (AdministratorAccess or IAMFullAccess is attached)",
	iamkeys.PowerUser:    "all but IAM (PowerUserAccess is attached)",
	iamkeys.UnknownPower: "unknown",
	iamkeys.NoPower:      "no administrator by a policy of AWS's own; more was not looked at",
}

func powerful(power iamkeys.Power) string {
	if said, ok := powers[power]; ok {
		return said
	}
	return Printable(string(power))
}

// offIn is how long it is until the key may be switched off, in seconds.
func (s situation) offIn() int {
	if s.Stage == "warning" {
		return s.Retirement.NoticeSeconds + s.Retirement.FinalSeconds
	}
	return s.Retirement.FinalSeconds
}

// exemptDays is how long the exemption lasts that a notice proposes.
const exemptDays = 365

// toKeep is what stops a retirement, and the way back.
func (s situation) toKeep() []paragraph {
	r := s.Retirement
	return paragraphs(
		say("What to do, before %s: nothing, if nobody needs the key. If a host needs it, let it use the key once: that stops this. IAM shows a use up to six hours late, so do it the day before at the latest.", s.in(s.offIn())),
		say("If the key must stay although hardly anything uses it, exempt its user, with the reason and a last day of at most 400 days from now:"),
		paste("aws", "iam", "tag-user", "--user-name", r.UserName, "--tags",
			"Key="+iamkeys.TagExemptUntil+",Value="+s.now.AddDate(0, 0, exemptDays).UTC().Format(time.DateOnly), "Key="+iamkeys.TagExemptReason+",Value=why this key must stay"),
		say("Once it is off, switching it on again is the way back, for %s; then it is deleted. Who runs the stack stops all retirements by its parameter RetirementMode.", Several(r.SoakDays, "day")))
}

func warning(s situation) text {
	return text{
		said: paragraphs(say("Nothing has used this access key for %s. It will be switched off on %s, or on the first day after that on which the stack acts, unless it is used or exempted before. There will be one more warning.", Several(s.Retirement.IdleDays, "day"), s.in(s.offIn()))),
		todo: s.toKeep(),
	}
}

func final(s situation) text {
	return text{
		said: paragraphs(say("This is the last warning. Nothing has used this access key for %s. It will be switched off on %s, or on the first day after that on which the stack acts, unless it is used or exempted before.", Several(s.Retirement.IdleDays, "day"), s.in(s.offIn()))),
		todo: s.toKeep(),
	}
}

func (s situation) reactivateKey() paragraph {
	return reactivate(s.Retirement.UserName, s.Retirement.AccessKeyID)
}

func (s situation) deleteKey() paragraph {
	return paste("aws", "iam", "delete-access-key", "--user-name", s.Retirement.UserName, "--access-key-id", s.Retirement.AccessKeyID)
}

func retired(s situation) text {
	return text{
		said: paragraphs(say("The key is switched off, after two warnings. Nothing is lost yet: it will be deleted on %s.", s.in(s.Retirement.SoakDays*24*3600))),
		todo: paragraphs(
			say("What to do: nothing, if all works. If something has stopped working, switch the key on again at once, in the IAM console, with the activate function, or so:"),
			s.reactivateKey(),
			say("The retirement looks at it every day; once it sees the key Active or used, it leaves it alone for good and says so.")),
	}
}

func removed(situation) text {
	return text{said: paragraphs(say("The key is gone: deleted at the end of its soak, or by another hand before that. There is no way back to it. Nothing is left to do."))}
}

// The texts of kept: nothing was switched off, or nothing that was is deleted.

func keptInUse(situation) text {
	return text{
		said: paragraphs(say("The key is not retired: it was used, it serves as another key's replacement, or it is not Active any more. The reason below says which. The retirement has changed nothing.")),
		todo: paragraphs(say("What to do: nothing. If it falls idle again, there will be two warnings again.")),
	}
}

func keptExempt(situation) text {
	return text{
		said: paragraphs(say("The key is not retired: its user is exempt now. The retirement has changed nothing.")),
		todo: paragraphs(say("What to do: nothing. When the exemption has ended and the key is still unused, there will be two warnings again, 90 days from now at the earliest.")),
	}
}

func keptProtected(situation) text {
	return text{
		said: paragraphs(say("The key is not retired: its user has the tag %s, or is not under the stack's UserPath. The retirement has changed nothing.", iamkeys.TagProtect)),
		todo: paragraphs(say("What to do: nothing, if that was meant. The key stays for a person to decide on.")),
	}
}

func keptOff(s situation) text {
	return text{
		said: paragraphs(say("The key is not retired: the stack's parameter RetirementMode is not apply any more. The retirement has changed nothing.")),
		todo: paragraphs(say("What to do: nothing. When RetirementMode is apply again, there will be two warnings again, 90 days from now at the earliest; who does not want to wait starts an execution retire-%s-2 (or with anything else behind the second hyphen).", s.Retirement.AccessKeyID)),
	}
}

func keptForAnother(situation) text {
	return text{
		said: paragraphs(say("The key is not retired: another rotation or retirement of its user was begun before, and goes on. This one has changed nothing.")),
		todo: paragraphs(say("What to do: nothing. The reason below names the other one.")),
	}
}

func keptUserGone(s situation) text {
	return text{
		said: paragraphs(say("User %s was not found. Either it was deleted, and its keys with it, or it has another name now and its keys live on under that. The retirement has ended.", s.userName)),
		todo: paragraphs(say("What to do: nothing, if it was deleted and that was meant. If it was renamed, its key %s is as the retirement left it; still unused and Active, it will be warned of under the new name.", s.Retirement.AccessKeyID)),
	}
}

func keptNotOurs(s situation) text {
	return text{
		said: paragraphs(say("The key was off already when the retirement came to switch it off: by another hand, or by an attempt of its own that was not known to have done it. What the retirement has not switched off it does not delete. It has ended; the key stays Inactive.")),
		todo: paragraphs(
			say("What to do: if nobody needs the key, delete it:"),
			s.deleteKey(),
			say("If something has stopped working, switch it on again:"),
			s.reactivateKey()),
	}
}

func keptAfterOff(s situation) text {
	return text{
		said: paragraphs(say("The retirement has ended after it switched the key off, or tried to without an answer: the user is exempt or protected now, RetirementMode is not apply any more, or another one goes first. The reason below says which. The key stays as it is, and nobody deletes it.")),
		todo: paragraphs(
			say("What to do: if something needs the key, switch it on again:"),
			s.reactivateKey(),
			say("If nobody needs it, delete it:"),
			s.deleteKey()),
	}
}

func reactivated(s situation) text {
	return text{
		said: paragraphs(say("Somebody has switched the key on again, so it was not deleted. The retirement has ended, and leaves the key alone.")),
		todo: paragraphs(say("What to do: nothing, if that was meant. If the key falls idle for as long again, there will be two warnings again.")),
	}
}

func usedAfterAll(s situation) text {
	return text{
		said: paragraphs(say("IAM shows a use of the key that was not known when it was switched off: shortly before it was off, or since. So something may still need it, and it was not deleted. The retirement has ended; the key is Inactive.")),
		todo: paragraphs(
			say("What to do: find the consumer; the reason below says when, and by which service. If it must work, switch the key on again:"),
			s.reactivateKey(),
			say("If nobody needs it after all, delete it:"),
			s.deleteKey()),
	}
}

// What follows is said of retirements that failed.

func notLearnt(s situation) text {
	return text{
		said: paragraphs(say("Whether the key is to be retired could not be learnt. Nobody was warned of it, and nothing was changed.")),
		todo: paragraphs(say("What to do: see the reason below. When that is settled, start an execution retire-%s-2 (or with anything else behind the second hyphen).", s.Retirement.AccessKeyID)),
	}
}

func failedBeforeOff(s situation) text {
	return text{
		said: paragraphs(say("The retirement has ended before the key was seen switched off. It was Active when last seen; an attempt that met an error may have switched it off all the same. It is not deleted.")),
		todo: paragraphs(
			say("What to do: see the reason below, and look at the key. If it is Inactive and something has stopped working, switch it on again:"),
			s.reactivateKey(),
			say("While it is unused and Active, it is warned of again when the reason is settled and an execution retire-%s-2 (or with anything else behind the second hyphen) is started.", s.Retirement.AccessKeyID)),
	}
}

func unwarned(s situation) text {
	return text{
		said: paragraphs(say("For two days nobody could be told of this key, so the retirement has ended. It has switched nothing off: who was not warned loses no key.")),
		todo: paragraphs(say("What to do: see the reason below. When that is settled, and the key is still there and unused, start an execution retire-%s-2 (or with anything else behind the second hyphen).", s.Retirement.AccessKeyID)),
	}
}

// untoldAfterOff is said where retired, rolledBack, removed or kept could not be.
func untoldAfterOff(s situation) text {
	return text{
		said: paragraphs(say("For two days nobody could be told how far the retirement has come, so it has ended. It had switched the key off. Since then the key may have been switched on again, used or deleted: what could not be told is in the execution.")),
		todo: paragraphs(
			say("What to do: see the reason below, and look whether the key is there, and how it stands:"),
			paste("aws", "iam", "list-access-keys", "--user-name", s.Retirement.UserName),
			say("If it is Inactive and something has stopped working, switch it on again:"),
			s.reactivateKey(),
			say("If nobody needs it, delete it:"),
			s.deleteKey()),
	}
}

func failedAfterOff(s situation) text {
	return text{
		said: paragraphs(say("The key is switched off and, as far as is known, not deleted. The retirement has ended: for seven days running neither the daily look nor the deletion got an answer, or it was not permitted. The reason below says which.")),
		todo: paragraphs(
			say("What to do: if something has stopped working, switch the key on again:"),
			s.reactivateKey(),
			say("If nobody needs it, delete it:"),
			s.deleteKey()),
	}
}
