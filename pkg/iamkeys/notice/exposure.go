package notice

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"iamkeys/pkg/iamkeys"
)

// An Exposure is what exposed answered, passed on whole, with what came of its keys since.
type Exposure struct {
	iamkeys.Exposure
	Keys    []ExposedKey `json:"keys"`
	Omitted int          `json:"omitted,omitempty"` // keys that the message has no room for
}

// An ExposedKey is one of them. A key that was to be switched off has the status that it
// was seen with afterwards.
type ExposedKey struct {
	iamkeys.ExposedKey
	Error     *string `json:"error,omitempty"`     // by which name the last attempt to switch it off failed
	Left      *string `json:"left,omitempty"`      // there when it was not seen Inactive: it is left to a person
	Throttled *string `json:"throttled,omitempty"` // there when AWS throttled every attempt: it is tried on
}

// What start is for an event that is over, and for one that says less than that keys are in public.
const (
	closed    iamkeys.Start = "closed"
	suspected iamkeys.Start = "suspected"
)

// ofExposure is an event of AWS Health about keys found in public.
func ofExposure(e Exposure) matter {
	m := matter{of: exposure, severity: "critical", count: e.Omitted, named: Printable(e.Account), start: unplanned}
	switch {
	case e.StatusCode == "closed":
		m.start = closed
	case e.EventTypeCode != iamkeys.ExposedCode:
		m.start = suspected
	}
	for _, k := range e.Keys {
		if k.Entity != "" {
			m.count++
		}
	}
	// One user's event is that user's; others' owners get their own part of it.
	if len(e.Keys) > 0 && e.Omitted == 0 && !slices.ContainsFunc(e.Keys, func(k ExposedKey) bool {
		return value(k.UserName) != value(e.Keys[0].UserName) || k.account(e.Account) != e.Account
	}) {
		m.userName, m.owner = value(e.Keys[0].UserName), value(e.Keys[0].Owner)
	}
	m.check = func(Stage) error { return nil }
	m.facts = func(row) []fact {
		return []fact{{"Account", Printable(e.Account)}, {"Event", Printable(e.EventTypeCode)}, {"State", Printable(e.StatusCode)}, {"ARN", Printable(e.EventARN)}}
	}
	return m
}

// untold reports whether the notice must go out: people were not told of every key yet,
// or something was done to one.
func (e Exposure) untold(stage Stage) bool {
	return stage != "exposed" || len(e.Keys) == 0 || slices.ContainsFunc(e.Keys, func(k ExposedKey) bool { return k.First || k.Deactivate })
}

func exposedKeys(s situation) text {
	return text{
		said: paragraphs(say("AWS found access keys in public. Whoever has seen one can use it until it is Inactive. Nothing was deleted.")),
		todo: append(s.exposed(),
			say("Then look in CloudTrail for what was done with the key, and tell AWS Support in the case that AWS has opened. Leave the policy that AWS attached to the user until that is settled; make a new key, and let its consumers read it, before the old one is deleted.")),
	}
}

func exposureSuspected(s situation) text {
	t := exposedKeys(s)
	t.said = paragraphs(say("AWS reports %s: it suspects that access keys are in public, or has put their users into quarantine. Whoever has seen a key can use it until it is Inactive. Nothing was changed: at such an event no key is switched off by itself, whatever ExposureMode says.",
		nonempty(Printable(s.Exposure.EventTypeCode), "an event that does not say what it is")))
	return t
}

func exposureClosed(s situation) text {
	return text{
		said: paragraphs(say("AWS has closed its event about access keys that it had found in public. Nothing was changed at that.")),
		todo: s.exposed(),
	}
}

func switchedOff(s situation) text {
	return text{
		said: paragraphs(say("AWS throttled the first attempts to switch off a key that it had found in public. The key is off now, or is known to need a person.")),
		todo: s.exposed(),
	}
}

func notSwitchedOff(s situation) text {
	return text{
		said: paragraphs(say("A key that AWS found in public could not be switched off, or the event could not be read to its end. Whoever has seen the key can use it until it is Inactive.")),
		todo: s.exposed(),
	}
}

// exposed says of each key how it stands, and gives the command for whoever can act.
func (s situation) exposed() (all []paragraph) {
	if len(s.Exposure.Keys) == 0 {
		return paragraphs(say("What to do, at once: the event could not be read. Open it in the AWS Health Dashboard of the account; it names the keys."))
	}
	for _, k := range s.Exposure.Keys {
		all = append(all, k.told(s.Stage, s.Exposure.Account, s.account)...)
	}
	if n := s.Exposure.Omitted; n > 0 {
		all = append(all, say("%s more: see the event in the AWS Health Dashboard, and the execution that handles it.", Several(n, "key")))
	}
	return all
}

// arns are those of IAM, with their account.
var arns = regexp.MustCompile(`^arn:aws[a-z-]*:iam::(\d{12}):`)

// account is whose key it is: an ARN says so itself, whatever account the event is about.
func (k ExposedKey) account(event string) string {
	if arn := arns.FindStringSubmatch(k.Entity); arn != nil {
		return arn[1]
	}
	return event
}

// told says of one key how it stands and what to do. A key of another account than ours
// is acted on there.
func (k ExposedKey) told(stage Stage, account, ours string) []paragraph {
	account = k.account(account)
	other := account != ours // one that is not known, too
	account = nonempty(Printable(account), "UNKNOWN")
	id, user, entity := value(k.AccessKeyID), value(k.UserName), k.Entity
	name := id
	if user != "" {
		name = strings.TrimSpace(id + " of user " + user)
	}
	if owner := value(k.Owner); owner != "" {
		name += " (owner " + owner + ")"
	}
	known := []string{}
	if k.Status != nil {
		known = append(known, string(*k.Status))
	}
	if k.LastUsedDate != nil {
		known = append(known, "last used "+Moment(*k.LastUsedDate))
	}
	if k.Power != iamkeys.NoPower && k.Power != iamkeys.UnknownPower {
		known = append(known, powerful(k.Power))
	}
	how := strings.Join(known, ", ")
	if how != "" {
		how = ": " + how
	}
	off := paste("aws", "iam", "update-access-key", "--user-name", nameOr(user), "--access-key-id", id, "--status", "Inactive")
	whose := paste("aws", "iam", "get-access-key-last-used", "--access-key-id", id)
	all := paste("aws", "iam", "list-access-keys", "--user-name", nameOr(user))
	each := paste("aws", "iam", "update-access-key", "--user-name", nameOr(user), "--access-key-id", nonempty(id, "KEY"), "--status", "Inactive")
	active := k.Status != nil && *k.Status == iamkeys.Active
	isOff := k.Status != nil && (*k.Status == iamkeys.Inactive || *k.Status == iamkeys.Expired) // any other word may mean that it can be used
	switch {
	case entity == "" && id == "" && user == "":
		return paragraphs(say("The event names no access key and no user. What to do, at once: open it in the AWS Health Dashboard of the account; it may say more there."))
	case strings.HasPrefix(id, "ASIA"):
		return paragraphs(
			say("%s is a temporary key, of a role or a user's session. It cannot be switched off by itself: in the IAM console, revoke the active sessions of its role, or deny its user. This names its account:", id),
			paste("aws", "sts", "get-access-key-info", "--access-key-id", id))
	case entity == "root", strings.HasSuffix(entity, ":root"), strings.HasPrefix(entity, "<root"), user == "root", strings.HasPrefix(user, "<root"):
		return paragraphs(say("%s is the root user's. What to do, at once: sign in as the root user of account %s, and make its access key inactive under Security credentials. Nobody else can.", entity, account))
	case other && id != "":
		return paragraphs(
			say("%s belongs to account %s, in which this stack changes nothing. What to do there, at once: find its user, and switch the key off.", name, account),
			whose, each)
	case other:
		return paragraphs(say("%s of account %s is named, in which this stack changes nothing. What to do there, at once: switch its access keys off.", nameOf(nonempty(entity, user)), account), all, each)
	case id == "" && user != "" && k.Known != nil && *k.Known:
		return paragraphs(say("User %s has no Active access key. Nothing is left to switch off; look in CloudTrail for what was done with those that it had.", user))
	case id == "" && user != "" && k.Known == nil:
		return paragraphs(say("The access keys of user %s could not be read. What to do, at once: list them, and switch off each that is Active.", user), all, each)
	case id == "" && user != "":
		return paragraphs(say("User %s is not known to this account: it was deleted, or never was this account's. What to do: look in CloudTrail for what was done with its keys, and make sure that it is gone:", user), all)
	case id == "":
		return paragraphs(say("%s is named, which is no access key or user that the account is known to have. What to do: look into the event in the AWS Health Dashboard.", nameOf(entity)))
	case k.Known != nil && !*k.Known:
		return paragraphs(
			say("%s is not known to this account: it was deleted, or never was this account's. What to do: look in CloudTrail for what was done with it, and make sure that it is gone:", id),
			whose)
	case isOff && k.Deactivate:
		return paragraphs(say("%s was Active, and is switched off%s. If it becomes Active again, somebody has done that.", name, how))
	case isOff:
		return paragraphs(say("%s is off already%s.", name, how))
	case k.Throttled != nil && k.Left == nil && stage == failed:
		return paragraphs(say("%s could not be switched off, since AWS throttled every attempt, and it is tried no more. What to do, at once:", name), off)
	case k.Throttled != nil && k.Left == nil:
		return paragraphs(say("%s could not be switched off yet, since AWS throttled every attempt; it is tried on for an hour, and you will be told. To be faster:", name), off)
	case active && k.Deactivate && value(k.Error) == "" && k.Left != nil:
		return paragraphs(say("%s was switched off, and is Active again%s. Somebody has switched it on; it is not switched off again. What to do, at once:", name, how), off)
	case active && !k.Deactivate && k.Left != nil:
		return paragraphs(say("%s is left on%s. Its user is protected by now, somebody has switched it on again, or it could not be switched off when you were told of it. What to do, at once, if it is not meant to be on:", name, how), off)
	case k.Deactivate || k.Left != nil:
		return paragraphs(say("%s was to be switched off, and is not known to be off (%s)%s. What to do, at once:", name, nonempty(value(k.Error), "no reason given"), how), off)
	case k.Known == nil || user == "":
		return paragraphs(say("%s could not be looked up. What to do, at once: find its user, and switch the key off.", id),
			whose, each)
	case !active:
		return paragraphs(say("%s is not known to be off%s. What to do, at once:", name, how), off)
	}
	return paragraphs(say("%s can be used by anybody who has seen it%s. What to do, at once:", name, how), off)
}

func nonempty(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// nameOr is a user's name, or what stands for it in a command.
func nameOr(user string) string { return nonempty(user, "USER") }

// nameOf is an entity as the event names it.
func nameOf(entity string) string { return fmt.Sprintf("%q", Printable(entity)) }
