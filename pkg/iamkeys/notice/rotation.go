package notice

import (
	"iamkeys/pkg/iamkeys"
)

// ofRotation is one old key on its way to being replaced, as plan resolved it.
func ofRotation(r iamkeys.Rotation) matter {
	s := matter{of: rotation, userName: r.UserName, owner: value(r.Owner)}
	if r.Start != nil {
		s.start = *r.Start
	}
	s.check = func(stage Stage) error {
		if err := iamkeys.CheckUserName(r.UserName); err != nil || stage == failed {
			return err
		}
		if r.AccessKeyID == nil || r.SecretID == nil {
			return iamkeys.Refuse(iamkeys.InvalidInput, "rotation must have accessKeyId and secretId: the stage %s goes with what the plan function answered.", stage)
		}
		return nil
	}
	s.facts = func(row row) []fact {
		return []fact{
			{"User", r.UserName},
			{"Owner", Printable(value(r.Owner))},
			{"Old key", join(value(r.AccessKeyID), row.old)},
			{"New key", join(value(r.NewAccessKeyID), row.new)},
			{"Secret", Printable(value(r.SecretID))},
		}
	}
	return s
}

// switchBy is the last moment to move to the new key, with that many polls left:
// after it the old one cannot be idle for its quiet window before the wait ends.
func (s situation) switchBy(polls int) string {
	if left := polls*s.Rotation.PollSeconds - s.Rotation.QuietHours*3600; left > 0 {
		return "by " + s.in(left) + " at the latest"
	}
	return "at once"
}

func (s situation) old() string    { return value(s.Rotation.AccessKeyID) }
func (s situation) secret() string { return value(s.Rotation.SecretID) }

func (s situation) toStop() string {
	return say("To stop, stop the rotation's execution, which is named %s unless somebody has named it otherwise. Both keys then stay as they are.", s.old())
}

const again = "Start the rotation again under another execution name when that is settled: it goes on from what it finds."

func ready(s situation) text {
	r := s.Rotation
	return text{
		said: []string{say("A new access key is in the current version of secret %s. The old key still works, and so does the new one.", s.secret())},
		todo: []string{
			say("What to do, %s: let every consumer of %s read the secret again (those that read it at every start, or through credential_process with an Expiration, do so by themselves). Nobody needs to switch the old key off: that happens by itself once the old key has not been used for %d hours and the new one has been used.",
				s.switchBy(r.Polls), r.UserName, r.QuietHours),
			say("If that has not come about by %s, the old key stays on, the rotation ends as failed, and you are told.", s.in(r.Polls*r.PollSeconds)),
			s.toStop(),
		},
	}
}

func reminder(s situation) text {
	why := "the old key is still on."
	switch s.Error.code() {
	case "":
	case iamkeys.KeyInUse:
		why = "the old key is still on because something still uses it."
	case iamkeys.NotAdopted:
		why = "the old key is still on because nothing has used the new one yet."
	default:
		why = "the old key is still on, and the last attempt to switch it off met an error."
	}
	r, left := s.Rotation, s.Rotation.Polls-s.Rotation.RemindAtPoll
	return text{
		said: []string{"Half of the time for this rotation is over, and " + why},
		todo: []string{
			say("What to do, %s: find the consumer of %s and let it read secret %s again. The old key is switched off once it has not been used for %d hours; on %s the rotation ends as failed otherwise, and both keys stay Active.",
				s.switchBy(left), s.old(), s.secret(), r.QuietHours, s.in(left*r.PollSeconds)),
			s.toStop(),
		},
	}
}

func off(s situation) text {
	return text{
		said: []string{"The old key is Inactive. The rotation switches it off once it was idle for its quiet window and the new one is in use, unless somebody has switched it off before. Nothing is lost yet."},
		todo: []string{say("It will be deleted on %s. What to do: nothing, if all works. If something has stopped working, reactivate the old key at once, in the IAM console or with the activate function: the rotation then leaves it alone and says so.",
			s.in(s.Rotation.SoakSeconds))},
	}
}

func done(situation) text {
	return text{said: []string{"The old key has been deleted; there is no way back to it. The new key takes its place. Nothing is left to do."}}
}

func goneInWait(s situation) text {
	return text{
		said: []string{"Somebody has deleted the old key during the wait, so there is nothing left to switch off, and no way back to it."},
		todo: []string{say("What to do: see to it that every consumer of %s reads secret %s. Whether they do was not looked at.", s.userName, s.secret())},
	}
}

// What follows is said of rotations that ended early.

func refused(situation) text {
	return text{
		said: []string{"The rotation was refused before anything was changed: every key is as it was."},
		todo: []string{"What to do: see the reason below. " + again},
	}
}

func orphaned(situation) text {
	return text{
		said: []string{"No new key is known to be delivered, and one may be left over: the reason below names it. The old key is as it was and stays Active."},
		todo: []string{"What to do: start the rotation again under another execution name in a few minutes. It settles a key that a dead create left, or tells which one to delete by hand."},
	}
}

func createDied(situation) text {
	return text{
		said: []string{"The create function gave no answer, so whether there is a new key is unknown: a key may be left over that nobody holds, or the secret may hold the new one already. The old key is as it was and stays Active, so nothing has stopped working."},
		todo: []string{"What to do: start the rotation again under another execution name in a few minutes. It goes on with the new key if that is delivered, and removes it if not."},
	}
}

func notCreated(situation) text {
	return text{
		said: []string{"No new key is known to be delivered. The old key is as it was and stays Active, so nothing has stopped working."},
		todo: []string{"What to do: see the reason below. " + again + " If an attempt has died before this error, a key may be left over that nobody holds: the next rotation removes it."},
	}
}

func wentBack(s situation) text {
	return text{
		said: []string{"Somebody reactivated the old key during its soak, so it was not deleted, and the rotation has ended. The new key is as it was."},
		todo: []string{say("What to do: find out what still needs %s and move it to the key in secret %s. Then start the rotation again under another execution name.", s.old(), s.secret())},
	}
}

func notReplacedInSoak(s situation) text {
	return text{
		said: []string{say("The old key is Inactive and was NOT deleted, because the new key %s is not Active any more or secret %s does not deliver it any more. The user may be left without a working key.", value(s.Rotation.NewAccessKeyID), s.secret())},
		todo: []string{say("What to do, at once: reactivate %s in the IAM console or with the activate function if a consumer is broken. Then find out who changed the new key or the secret.", s.old())},
	}
}

func userGone(s situation) text {
	return text{
		said: []string{"The user is not there any more, and its keys went with it. There is nothing left to rotate."},
		todo: []string{say("What to do: nothing, if that was meant. Secret %s still holds the last key, which is of no use any more.", s.secret())},
	}
}

func endedInSoak(s situation) text {
	return text{
		said: []string{"The old key is switched off and, as far as is known, not deleted."},
		todo: []string{say("What to do: see the reason below. Reactivate the old key if something has stopped working. Else start the rotation again under another execution name with accessKeyId %s, which takes up the soak again, or delete that key by hand when you are sure that nobody needs it.", s.old())},
	}
}

func stillInUse(s situation) text {
	return text{
		said: []string{"The wait is over and something still uses the old key. Both keys stay Active; nothing was switched off."},
		todo: []string{say("What to do: find the consumer of %s (CloudTrail names its calls) and let it read secret %s. %s", s.old(), s.secret(), again)},
	}
}

func neverAdopted(s situation) text {
	return text{
		said: []string{"The wait is over and nothing has used the new key. Both keys stay Active; nothing was switched off."},
		todo: []string{say("What to do: let the consumers of %s read secret %s. %s", s.userName, s.secret(), again)},
	}
}

func notReplacedInWait(s situation) text {
	return text{
		said: []string{say("The rotation has ended early, because the new key %s is not Active any more or secret %s does not deliver it any more. The old key was not switched off.", value(s.Rotation.NewAccessKeyID), s.secret())},
		todo: []string{"What to do: find out who changed the new key or the secret, and what its consumers hold now. " + again},
	}
}

func nobodyTold(situation) text {
	return text{
		said: []string{"The new key is delivered, but nobody could be told, so the rotation has not gone on to switch the old key off. Both keys are Active."},
		todo: []string{"What to do: see the reason below. " + again},
	}
}

func endedInWait(s situation) text {
	return text{
		said: []string{"The rotation has ended before the old key was seen switched off. Both keys were Active when last seen; an attempt that met an error may have switched the old one off all the same."},
		todo: []string{say("What to do: see the reason below and look at the keys of %s. Reactivate the old key if it is Inactive and something has stopped working. %s", s.userName, again)},
	}
}
