package notice_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/iamkeystest"
	"iamkeys/pkg/iamkeys/notice"
)

// sender sends to topic, owners and chat by one process, and counts what failed.
func sender(p *iamkeystest.Process, failed map[string]int) notice.Send {
	return notice.Send{SNS: p, Chat: p, SES: p, Owners: notice.Owners{Domains: []string{"example.com", "mail.example.org"}}, Log: quiet, Emit: func(metrics []audit.Metric) {
		for _, m := range metrics {
			failed[m.Name] += int(m.Value)
		}
	}}
}

// An owner's address is one address in one of the domains, and nothing else.
func TestOwnerAddress(t *testing.T) {
	owners := notice.Owners{Domains: []string{"example.com", "mail.example.org"}}
	for tag, want := range map[string]string{
		"team@example.com": "team@example.com", " Team+Keys@Example.COM ": "team+keys@example.com", "o'neill@mail.example.org": "o'neill@mail.example.org",
		"": "", "team": "", "team@": "", "@example.com": "", "team@example.com.": "", "team@example.org": "", "team@sub.example.com": "", "team@notexample.com": "",
		"team@example.com.evil.net": "", "team@evil.net@example.com": "", "Team <team@example.com>": "", "<team@example.com>": "", "team@example.com, boss@example.com": "",
		"team@example.com;boss@example.com": "", "team@example.com\r\nBcc: all@example.com": "", "team@example.com\nboss@example.com": "", "te am@example.com": "",
		`"a b"@example.com`: "", "mailto:team@example.com": "", "team@example.com (team)": "", "team@EXAMPLE.com\x00": "", "a..b@example.com": "", ".a@example.com": "", "a.@example.com": "",
		"te\u00e4m@example.com": "", "team@examp\u217ce.com": "", "team\u202e@example.com": "", strings.Repeat("a", 65) + "@example.com": "",
	} {
		if got, ok := owners.Address(tag); got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %t, want %q", tag, got, ok, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		tag := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z @<>,;\r\n"]{0,9}@(example\.com|mail\.example\.org|evil\.net)[\r\n a-z@,.]{0,9}`)).Draw(t, "tag")
		if got, ok := owners.Address(tag); ok && !regexp.MustCompile(`^[^@\s<>",;:()\\]+@(example\.com|mail\.example\.org)$`).MatchString(got) {
			t.Fatalf("%q is taken for the address %q", tag, got)
		}
	})
}

// The topic has the message before owners and chat do; only its failure fails.
func TestSend(t *testing.T) {
	for n := 0; n <= 3; n++ {
		for _, fault := range []iamkeystest.Fault{iamkeystest.Refused, iamkeystest.Unanswered, iamkeystest.Lost} {
			t.Run(fmt.Sprintf("%s %d", fault, n), func(t *testing.T) {
				a, failed := iamkeystest.NewAccount(), map[string]int{}
				p := a.Start()
				p.Fault = func(call int, _ string) iamkeystest.Fault {
					if call == n {
						return fault
					}
					return iamkeystest.None
				}
				r := rotation(iamkeys.StartDeactivate)
				r.Owner = new("team@example.com")
				out, err := notice.Notify{Send: sender(p, failed), Now: a.Now, Log: quiet}.Run(t.Context(), notice.Input{Stage: "ready", Rotation: r})
				want := map[int]string{0: "map[] 3", 1: "map[] 1", 2: "map[OwnerMailFailed:1] 3", 3: "map[ChatFailed:1] 3"}[n]
				if got := fmt.Sprint(failed, len(p.Calls)); got != want || p.Calls[0] != "sns:Publish" {
					t.Errorf("failed and called: %s (%v), want %s", got, p.Calls, want)
				}
				if n == 1 {
					wantCode(t, err, iamkeys.NotifyFailed)
					if len(a.Mails())+len(a.Chats()) > 0 {
						t.Error("others were told of what the topic may not have")
					}
				} else if err != nil || out.MessageID == nil {
					t.Errorf("got %+v, %v", out, err)
				}
			})
		}
	}
}

// The owner is told what the topic is, and why.
func TestOwnerMail(t *testing.T) {
	a := iamkeystest.NewAccount()
	send := sender(a.Start(), map[string]int{})
	r := rotation(iamkeys.StartDeactivate)
	for owner, told := range map[string]bool{"Team@example.com": true, "team-ci": false, "team@evil.net": false, "team@example.com\r\nBcc: all@example.com": false, "": false} {
		before := len(a.Mails())
		r.Owner = &owner
		if _, err := (notice.Notify{Send: send, Now: a.Now, Log: quiet}).Run(t.Context(), notice.Input{Stage: "ready", Rotation: r}); err != nil {
			t.Fatal(err)
		}
		mails := a.Mails()[before:]
		if len(mails) != map[bool]int{true: 1}[told] {
			t.Fatalf("owner %q got %+v", owner, mails)
		}
		if m := a.Messages()[len(a.Messages())-1]; told && (mails[0].To != "team@example.com" || mails[0].Subject != m.Subject || !strings.HasPrefix(mails[0].Text, m.Text) || !strings.Contains(mails[0].Text[len(m.Text):], "owner tag")) {
			t.Errorf("the owner got %+v", mails[0])
		}
	}
}

// A chatMessage is what Amazon Q Developer in chat applications reads.
type chatMessage struct {
	Version, Source string
	Content         struct {
		TextType, Title, Description string
		NextSteps, Keywords          []string
	}
	Metadata struct {
		ThreadID          string `json:"threadId"`
		Summary           string
		EventType         string
		AdditionalContext map[string]string
	}
}

func chatted(t interface{ Fatal(...any) }, a *iamkeystest.Account) chatMessage {
	var m chatMessage
	chats := a.Chats()
	if err := json.Unmarshal(chats[len(chats)-1].JSON, &m); err != nil {
		t.Fatal(err)
	}
	if m.Version != "1.0" || m.Source != "custom" || m.Content.TextType != "client-markdown" || m.Content.Title == "" || m.Content.Description == "" || m.Metadata.ThreadID == "" ||
		utf8.RuneCountInString(m.Content.Title) > 250 || utf8.RuneCountInString(m.Content.Description) > 2000 {
		t.Fatal(fmt.Sprintf("not a custom notification within its limits: %+v", m))
	}
	return m
}

func TestChat(t *testing.T) {
	a := iamkeystest.NewAccount()
	if _, err := (notice.Notify{Send: sender(a.Start(), map[string]int{}), Now: a.Now, Log: quiet}).Run(t.Context(), notice.Input{Stage: "off", Rotation: rotation(iamkeys.StartSoak)}); err != nil {
		t.Fatal(err)
	}
	chatted(t, a)
	var content bytes.Buffer
	if err := json.Indent(&content, a.Chats()[0].JSON, "", "  "); err != nil {
		t.Fatal(err)
	}
	golden(t, "chat-off.json", content.String()+"\n")
}

// unescaped is Markdown, an entity or a mention as a chat would read it.
var unescaped = regexp.MustCompile("(^|[^\\\\])(\\\\\\\\)*[`*~\\[\\]|#]|[<>]|&([^agl]|$)|(^|[^\\pL\\d])@[^\u200b]|[\\x00-\\x09\\x0b-\\x1f\u202e]")

// Whatever stands in tags, names and reasons, a chat shows it and does nothing else.
func TestChatShowsAnyText(t *testing.T) {
	for _, hostile := range []string{
		"<!channel> <@U012AB3CD> @here @channel", "[click](https://evil.example) ![x](https://evil.example/x.png)", "*bold* _it_ ~gone~ `code` ```block```", "# head\n> quote\n- list | table |",
		"<at>everyone</at> &lt;!here&gt;", "a\r\n\r\n@everyone\x1b[2J\u202e", "\\*bold\\*", strings.Repeat("*&<@x", 2000), strings.Repeat("\\", 3000),
	} {
		a := iamkeystest.NewAccount()
		r := rotation(iamkeys.StartDeactivate)
		r.Owner, r.SecretID = &hostile, &hostile
		in := notice.Input{Stage: "failed", Rotation: r, Error: &notice.StepError{Name: hostile, Message: hostile}}
		if _, err := (notice.Notify{Send: sender(a.Start(), map[string]int{}), Now: a.Now, Log: quiet}).Run(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		m := chatted(t, a)
		for _, said := range append(m.Content.NextSteps, m.Content.Title, m.Content.Description, m.Metadata.ThreadID, m.Metadata.Summary) {
			if at := unescaped.FindString(said); at != "" {
				t.Errorf("%q comes through in %q", at, said)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a := iamkeystest.NewAccount()
		m := iamkeys.Message{
			Subject: "s", Text: "t", JSON: []byte("{}"), Brief: rapid.OneOf(rapid.String(), rapid.StringMatching("[a@<>&*_`\\[\\]\\\\|~# \n]{1,900}")).Draw(t, "brief"),
			Attributes: []iamkeys.Attribute{{Name: "kind", Value: "audit"}},
		}
		if strings.TrimSpace(m.Brief) == "" {
			m.Brief = "nothing"
		}
		if _, err := sender(a.Start(), map[string]int{}).Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if said := chatted(t, a).Content.Description; unescaped.MatchString(said) {
			t.Fatalf("%q comes through in %q", unescaped.FindString(said), said)
		}
	})
}
