package notice

import (
	"cmp"
	"time"

	"iamkeys/pkg/iamkeys"
)

// A Rotation is what plan answered, passed on whole, with what the workflow has learnt since.
type Rotation struct {
	iamkeys.Rotation
	IdleSince   *time.Time `json:"idleSince,omitempty"`   // as deactivate answered, once the old key is off
	SoakSeconds int        `json:"soakSeconds,omitempty"` // of a rotation that began when a soak was one wait, in place of soakDays
}

// ofRotation is one old key on its way to being replaced, as plan resolved it.
func ofRotation(r Rotation) matter {
	m := matter{of: rotation, userName: r.UserName, owner: value(r.Owner)}
	if r.Start != nil {
		m.start = *r.Start
	}
	m.check = func(stage Stage) error {
		if err := iamkeys.CheckUserName(r.UserName); err != nil || stage == failed {
			return err
		}
		if r.AccessKeyID == nil || r.SecretID == nil {
			return iamkeys.Refuse(iamkeys.InvalidInput, "rotation must have accessKeyId and secretId: the stage %s goes with what the plan function answered.", stage)
		}
		return inRange(
			number{"rotation.quietHours", r.QuietHours, mostDays * 24}, number{"rotation.pollSeconds", r.PollSeconds, mostDays * 86400}, number{"rotation.polls", r.Polls, mostPolls}, number{"rotation.remindAtPoll", r.RemindAtPoll, mostPolls},
			number{"rotation.polls times pollSeconds", r.Polls * r.PollSeconds, mostDays * 86400}, number{"rotation.soakDays", r.SoakDays, mostDays}, number{"rotation.soakSeconds", r.SoakSeconds, mostDays * 86400})
	}
	m.facts = func(row row) []fact {
		return []fact{
			{"User", r.UserName},
			{"Owner", Printable(value(r.Owner))},
			{"Old key", join(value(r.AccessKeyID), row.old)},
			{"New key", join(value(r.NewAccessKeyID), row.new)},
			{"Secret", Printable(value(r.SecretID))},
		}
	}
	return m
}

// switchBy is the last moment to move to the new key, with that many polls left:
// after it the old one cannot be idle before the wait ends for as long as deactivate wants.
func (s situation) switchBy(polls int) string {
	if left := polls*s.Rotation.PollSeconds - s.idleHours()*3600; left > 0 {
		return "by " + s.in(left) + " at the latest"
	}
	return "at once"
}

// idleHours is how long the old key must be idle to be switched off: a use may show that late.
func (s situation) idleHours() int {
	return s.Rotation.QuietHours + int(iamkeys.LastUsedLag/time.Hour)
}

// What a rotation that ended early has not learnt has a word that stands for it.
func (s situation) oldKey() string { return nonempty(value(s.Rotation.AccessKeyID), "OLD_KEY_ID") }
func (s situation) newKey() string { return nonempty(value(s.Rotation.NewAccessKeyID), "NEW_KEY_ID") }
func (s situation) secret() string { return nonempty(value(s.Rotation.SecretID), "SECRET_ID") }

// smtp reports whether a mail host may hold the key's SMTP password, which is derived from its secret.
// https://docs.aws.amazon.com/ses/latest/dg/smtp-credentials.html
func (s situation) smtp() bool { return value(s.Rotation.ServiceName) == "ses" }

// toStop says how; the rotation's execution bears the old key's ID.
func (s situation) toStop() paragraph {
	return say("To stop the rotation, stop its execution %s (or %s-..., where it was started again). Both keys then stay as they are.", s.oldKey(), s.oldKey())
}

// again says how to start another rotation of the key.
func (s situation) again() string {
	if value(s.Rotation.AccessKeyID) == "" {
		return "start the rotation again as an execution named by the old key's ID, a hyphen and anything behind it: it goes on from what it finds."
	}
	return "start the rotation again as execution " + s.oldKey() + "-2, or with anything else behind the hyphen: it goes on from what it finds."
}

// reactivate is the way back.
func reactivate(userName, accessKeyID string) paragraph {
	return paste("aws", "iam", "update-access-key", "--user-name", userName, "--access-key-id", accessKeyID, "--status", "Active")
}

func (s situation) reactivateOld() paragraph { return reactivate(s.userName, s.oldKey()) }

func ready(s situation) text {
	r := s.Rotation
	todo := paragraphs(
		say("What to do, %s: let every consumer of %s read the secret again (those that read it at every start, or through credential_process with an Expiration, do so by themselves). To read it:", s.switchBy(r.Polls), s.userName),
		paste("aws", "secretsmanager", "get-secret-value", "--secret-id", cmp.Or(value(r.SecretARN), s.secret()), "--query", "SecretString", "--output", "text"),
		say("Nobody needs to switch the old key off: that happens by itself once it has not been used for %d hours and a consumer has used the new one. So one consumer that has moved is enough. A host that uses the key less often than every %d hours is not seen: it must move by itself, or it is left with a key that is off.", s.idleHours(), r.QuietHours),
	)
	if s.smtp() {
		todo = append(todo, say("The old key was last used by SES. A mail host that sends by SMTP has no use for the secret itself: derive its SMTP password from it again, for each Region that it sends from. Its SMTP user name is the new key's ID, %s.", s.newKey()))
	}
	return text{
		said: paragraphs(say("A new access key is in the current version of secret %s. The old key is left as it is for now, and the new one works.", s.secret())),
		todo: append(todo,
			say("If the old key could not be switched off by %s, it stays on, the rotation ends as failed, and you are told.", s.in(r.Polls*r.PollSeconds)),
			s.toStop()),
	}
}

func reminder(s situation) text {
	why := "the old key is still on."
	switch s.Error.code() {
	case "":
	case iamkeys.KeyInUse:
		why = "the old key is still on because something still uses it."
	case iamkeys.NotAdopted:
		why = "the old key is left as it is because nothing has used the new one yet."
	default:
		why = "the old key is still on, and the last attempt to switch it off met an error."
	}
	r, left := s.Rotation, s.Rotation.Polls-s.Rotation.RemindAtPoll
	return text{
		said: paragraphs(say("Half of the time for this rotation is over, and %s", why)),
		todo: paragraphs(
			say("What to do, %s: find the consumer of %s and let it read secret %s again. The old key is switched off once it has not been used for %d hours; on %s the rotation ends as failed otherwise, and both keys stay Active.",
				s.switchBy(left), s.oldKey(), s.secret(), s.idleHours(), s.in(left*r.PollSeconds)),
			s.toStop()),
	}
}

func off(s situation) text {
	return text{
		said: paragraphs(say("The old key is Inactive. The rotation switches it off once it was idle for its quiet window and the new one is in use, unless somebody has switched it off before. Nothing is lost yet.")),
		todo: paragraphs(
			say("It will be deleted on %s. What to do: nothing, if all works. If something has stopped working, reactivate the old key at once, in the IAM console, with the activate function, or so:", s.in(cmp.Or(s.Rotation.SoakDays*24*3600, s.Rotation.SoakSeconds))),
			s.reactivateOld(),
			say("The rotation looks at it every day; once it sees the key Active or used, it leaves it alone for good and says so.")),
	}
}

func done(situation) text {
	return text{said: paragraphs(say("The old key has been deleted; there is no way back to it. The new key takes its place. Nothing is left to do."))}
}

func goneInWait(s situation) text {
	return text{
		said: paragraphs(say("Somebody has deleted the old key during the wait, so there is nothing left to switch off, and no way back to it; or the user was renamed and took it along, and another one has its name.")),
		todo: paragraphs(say("What to do: see to it that every consumer of %s reads secret %s. Whether they do was not looked at. If the user was renamed, nothing was switched off: the old key works on under the new name.", s.userName, s.secret())),
	}
}

// What follows is said of rotations that ended early.

func refused(s situation) text {
	return text{
		said: paragraphs(say("The rotation was refused before anything was changed: every key is as it was.")),
		todo: paragraphs(say("What to do: see the reason below. When that is settled, %s", s.again())),
	}
}

func anotherFirst(s situation) text {
	return text{
		said: paragraphs(say("Another rotation or retirement of this user was begun before this one, or another create is at work. That one goes on; this one has changed nothing.")),
		todo: paragraphs(say("What to do: see the reason below, and let the other one end. Then, if it is still needed, %s", s.again())),
	}
}

func orphaned(s situation) text {
	return text{
		said: paragraphs(say("No new key is known to be delivered, and one may be left over that nobody holds: the reason below says which, and what settles it. The old key is as it was and stays Active.")),
		todo: paragraphs(say("What to do: as the reason below says, and delete nothing that it does not name. Then %s", s.again())),
	}
}

func createDied(s situation) text {
	return text{
		said: paragraphs(say("The create function gave no answer, so whether there is a new key is unknown: a key may be left over that nobody holds, or the secret may hold the new one already. The old key is as it was and stays Active, so nothing has stopped working.")),
		todo: paragraphs(say("What to do: delete nothing, wait ten minutes, and %s A new key that is delivered is used; one that the dead create has on record as its own is removed; of any other you are told what to look at.", s.again())),
	}
}

func notCreated(s situation) text {
	return text{
		said: paragraphs(say("No new key is known to be delivered. The old key is as it was and stays Active, so nothing has stopped working.")),
		todo: paragraphs(say("What to do: see the reason below. When that is settled, %s If an attempt has died before this error, a key may be left over that nobody holds: the next rotation removes it, or says what to look at.", s.again())),
	}
}

func goneBeforeCreate(s situation) text {
	return text{
		said: paragraphs(say("The user or its old key was not found any more: deleted, or renamed, since the rotation was planned. No new key is known to be delivered; if the user was renamed while a create was at work, a key may be left over under the new name, which nobody holds.")),
		todo: paragraphs(say("What to do: nothing, if the deletion was meant. If the user has another name now, start a rotation of that user; the secret's name follows the user's, so its consumers must be told.")),
	}
}

func wentBack(s situation) text {
	return text{
		said: paragraphs(say("Somebody reactivated the old key during its soak, so it was not deleted, and the rotation has ended. The new key is as it was.")),
		todo: paragraphs(say("What to do: find out what still needs %s and move it to the key in secret %s. Then %s", s.oldKey(), s.secret(), s.again())),
	}
}

func usedInSoak(s situation) text {
	return text{
		said: paragraphs(say("IAM shows a use of the old key that was not known when it was switched off: shortly before it was off, or since. So something may still need it, and it was NOT deleted. The rotation has ended; the old key is Inactive and the new one as it was.")),
		todo: paragraphs(
			say("What to do: find the consumer (the reason below says when, and by which service) and move it to the key in secret %s. If it must work before that, reactivate the old key:", s.secret()),
			s.reactivateOld(),
			say("Then %s While the old key is Inactive, give it as accessKeyId.", s.again())),
	}
}

func notReplacedInSoak(s situation) text {
	return text{
		said: paragraphs(say("The old key is Inactive and was NOT deleted, because the new key %s is not Active any more or secret %s does not deliver it any more. The user may be left without a working key.", s.newKey(), s.secret())),
		todo: paragraphs(
			say("What to do, at once: reactivate the old key if a consumer is broken. Then find out who changed the new key or the secret."),
			s.reactivateOld()),
	}
}

func notAdoptedInSoak(s situation) text {
	return text{
		said: paragraphs(say("The old key is Inactive and was NOT deleted, because nothing is known to have used the new key %s. The consumers of %s may be left without a working key.", s.newKey(), s.userName)),
		todo: paragraphs(
			say("What to do, at once: reactivate the old key if a consumer is broken, and let the consumers read secret %s.", s.secret()),
			s.reactivateOld(),
			say("Then %s While the old key is Inactive, give it as accessKeyId.", s.again())),
	}
}

func userGone(s situation) text {
	return text{
		said: paragraphs(say("User %s was not found. Either it was deleted, and its keys with it, or it has another name now and its keys live on under that; nothing was changed since.", s.userName)),
		todo: paragraphs(say("What to do: if it was deleted and that was meant, nothing; secret %s still holds its last key, which is of no use any more. If it was renamed, its consumers still work, and keys %s and %s are that user's now: start a rotation of it, with accessKeyId %s.", s.secret(), s.oldKey(), s.newKey(), s.oldKey())),
	}
}

func deniedInSoak(s situation) text {
	return text{
		said: paragraphs(say("The old key is switched off and, as far as is known, not deleted: looking at it or deleting it was not permitted. A policy has changed, the user has the tag %s now, or it is no longer under the stack's UserPath.", iamkeys.TagProtect)),
		todo: paragraphs(s.orElse()...),
	}
}

func endedInSoak(s situation) text {
	return text{
		said: paragraphs(say("The old key is switched off and, as far as is known, not deleted. For seven days running nothing could be learnt of it: neither the daily look nor the deletion got an answer.")),
		todo: paragraphs(s.orElse()...),
	}
}

// orElse is what to do with an old key whose soak ended without its deletion.
func (s situation) orElse() []paragraph {
	return paragraphs(
		say("What to do: see the reason below. If something has stopped working, reactivate the old key:"),
		s.reactivateOld(),
		say("Otherwise, %s With accessKeyId %s in its input it takes up the soak again, from its beginning. Or delete the key by hand when you are sure that nobody needs it.", s.again(), s.oldKey()))
}

func nobodyToldInSoak(s situation) text {
	return text{
		said: paragraphs(say("The old key is switched off, and for two days nobody could be told. The rotation has ended: the old key stays Inactive, unless its soak was over and it is deleted by now.")),
		todo: paragraphs(s.orElse()...),
	}
}

func stillInUse(s situation) text {
	return text{
		said: paragraphs(say("The wait is over and something still uses the old key. Both keys stay Active; nothing was switched off.")),
		todo: paragraphs(say("What to do: find the consumer of %s (CloudTrail names its calls) and let it read secret %s. Then %s", s.oldKey(), s.secret(), s.again())),
	}
}

func neverAdopted(s situation) text {
	return text{
		said: paragraphs(say("The wait is over and nothing has used the new key, so this rotation has switched nothing off. Both keys stay Active, unless somebody else has switched the old one off.")),
		todo: paragraphs(say("What to do: let the consumers of %s read secret %s. Then %s", s.userName, s.secret(), s.again())),
	}
}

func notReplacedInWait(s situation) text {
	return text{
		said: paragraphs(say("The rotation has ended early, because the new key %s is not Active any more or secret %s does not deliver it any more. The old key was not switched off.", s.newKey(), s.secret())),
		todo: paragraphs(say("What to do: find out who changed the new key or the secret, and what its consumers hold now. Then %s", s.again())),
	}
}

func nobodyTold(s situation) text {
	return text{
		said: paragraphs(say("The new key is delivered, but for two days nobody could be told, so the rotation has not gone on to switch the old key off. Both keys are Active.")),
		todo: paragraphs(say("What to do: see the reason below. When that is settled, %s", s.again())),
	}
}

func endedInWait(s situation) text {
	return text{
		said: paragraphs(say("The rotation has ended before the old key was seen switched off. Both keys were Active when last seen; an attempt that met an error may have switched the old one off all the same.")),
		todo: paragraphs(
			say("What to do: see the reason below and look at the keys of %s. If the old key is Inactive and something has stopped working, reactivate it:", s.userName),
			s.reactivateOld(),
			say("When that is settled, %s", s.again())),
	}
}
