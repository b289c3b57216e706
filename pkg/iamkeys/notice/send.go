package notice

import (
	"context"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
)

// Send sends every message that there is: to the notification topic first, then, where
// they are on, to the owners by mail and into the chat. Whoever sends has one port, to
// SNS, which Send implements: a message has been sent when the topic has it.
type Send struct {
	SNS    iamkeys.Publish   // the notification topic
	Chat   iamkeys.Publish   // the chat's topic; nil: there is none
	SES    iamkeys.SendEmail // nil: owners get no mail
	Owners Owners
	Emit   func([]audit.Metric)
	Log    *slog.Logger
}

var _ iamkeys.Publish = Send{}

// aside is how long mails and chat may hold a function up, all together: what was told
// to the topic must not be told again because they took all its time.
const aside = 15 * time.Second

// Publish implements the port. Its error is the topic's, and then nobody was told. What
// owners and chat do not get is logged and counted, and fails nothing.
func (o Send) Publish(ctx context.Context, m iamkeys.Message) (messageID string, err error) {
	if messageID, err = o.SNS.Publish(ctx, m); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, aside)
	defer cancel()
	for _, mail := range m.Mails {
		if to, ok := o.Owners.Address(mail.Owner); ok && o.SES != nil {
			if err := o.Mail(ctx, to, mail.Subject, mail.Text); err != nil {
				o.warn(ctx, "OwnerMailFailed", "an owner's mail failed; the topic has the message", err)
			}
		}
	}
	if o.Chat != nil {
		if _, err := o.Chat.Publish(ctx, chat(m)); err != nil {
			o.warn(ctx, "ChatFailed", "the chat's message failed; the topic has it", err)
		}
	}
	return messageID, nil
}

// Mail sends one owner one mail.
func (o Send) Mail(ctx context.Context, to, subjectLine, text string) error {
	_, err := o.SES.SendEmail(ctx, to, subject(subjectLine), text)
	return err
}

func (o Send) warn(ctx context.Context, metric, what string, err error) {
	o.Log.WarnContext(ctx, what, "code", iamkeys.CodeOf(err), "error", err.Error())
	o.Emit([]audit.Metric{{Name: metric, Unit: "Count", Value: 1}})
}

// Owners says which owners get mail: those whose tag is an address in one of these domains.
type Owners struct {
	Domains []string // in lower case, without @
}

// addresses are what RFC 5321 lets stand without quotes. A user's tag may hold no comma,
// semicolon, space or line end as it is, and a name beside the address is none either.
var addresses = regexp.MustCompile(`^[A-Za-z0-9!#$%&'*+/=?^_{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_{|}~-]+)*@([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])$`)

// Address gives the address that an owner's tag is, in lower case: one, with nothing
// beside it, in one of the domains. A domain stands for itself, not for those below it.
func (o Owners) Address(owner string) (address string, ok bool) {
	address = strings.ToLower(strings.TrimSpace(owner))
	local, domain, _ := strings.Cut(address, "@")
	if len(address) > 254 || len(local) > 64 || !addresses.MatchString(address) || !slices.Contains(o.Domains, domain) {
		return "", false
	}
	return address, true
}
