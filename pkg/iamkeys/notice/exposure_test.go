package notice_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
	"iamkeys/pkg/iamkeys/notice"
)

// exposedKey is an Active key of the account that people were not told of yet.
func exposedKey(changes ...func(*notice.ExposedKey)) notice.ExposedKey {
	k := notice.ExposedKey{ExposedKey: iamkeys.ExposedKey{
		Entity: key, AccessKeyID: new(key), UserName: new(user), Owner: new("team-ci"), Status: new(iamkeys.Active), LastUsedDate: new(iamkeystest.Epoch.Add(-time.Hour)),
		Power: iamkeys.Admin, Known: new(true), First: true,
	}}
	for _, change := range changes {
		change(&k)
	}
	return k
}

func exposure(keys ...notice.ExposedKey) *notice.Exposure {
	return &notice.Exposure{Exposure: iamkeys.Exposure{
		EventARN: "arn:aws:health:us-east-1::event/RISK/AWS_RISK_CREDENTIALS_EXPOSED/1a2b3c", EventTypeCode: "AWS_RISK_CREDENTIALS_EXPOSED", StatusCode: "open", Account: "123456789012",
	}, Keys: keys}
}

func exposureNotifier(p *iamkeystest.Process) notice.Notify {
	return notice.Notify{Send: sender(p, map[string]int{}), S3: p, Account: p.ID, Now: p.Now, Log: quiet}
}

// TestExposureNotices holds what is said of every form of key to one golden mail each.
func TestExposureNotices(t *testing.T) {
	named := func(entity, id, name string) func(*notice.ExposedKey) {
		return func(k *notice.ExposedKey) {
			k.ExposedKey = iamkeys.ExposedKey{Entity: entity, AccessKeyID: iamkeys.Optional(id), UserName: iamkeys.Optional(name), Power: iamkeys.UnknownPower, First: true}
		}
	}
	unknown := func(k *notice.ExposedKey) { k.Known = new(false) }
	off := func(k *notice.ExposedKey) { k.Status = new(iamkeys.Inactive) }
	was := func(k *notice.ExposedKey) { k.Deactivate = true }
	failed := func(name string) func(*notice.ExposedKey) {
		return func(k *notice.ExposedKey) { k.Error, k.Left = new(name), new(key) }
	}
	other := exposure(exposedKey(named(key, key, "")), exposedKey(named("leaky", "", "")))
	other.Account = "210987654321"
	suspicion := exposure(exposedKey(), exposedKey(named("arn:aws:iam::210987654321:user/theirs", "", "theirs")))
	suspicion.EventTypeCode = "AWS_RISK_CREDENTIALS_EXPOSURE_SUSPECTED"
	over := exposure(exposedKey(off))
	over.StatusCode = "closed"
	for name, in := range map[string]notice.Input{
		"told":         {Stage: "exposed", Exposure: exposure(exposedKey())},
		"switched-off": {Stage: "exposed", Exposure: exposure(exposedKey(was, off))},
		"active-again": {Stage: "exposed", Exposure: exposure(exposedKey(was, func(k *notice.ExposedKey) { k.Left = new(key) }))},
		"not-off":      {Stage: "exposed", Exposure: exposure(exposedKey(was, failed("AccessDenied")))},
		"throttled":    {Stage: "exposed", Exposure: exposure(exposedKey(was, func(k *notice.ExposedKey) { k.Throttled = new(key) }))},
		"closed":       {Stage: "exposed", Exposure: over},
		"suspected":    {Stage: "exposed", Exposure: suspicion},
		"another":      {Stage: "exposed", Exposure: other},
		"nothing-read": {Stage: "failed", Exposure: exposure(), Error: &notice.StepError{Name: "States.Timeout"}},
		"of-users": {Stage: "exposed", Exposure: exposure(exposedKey(named("unread", "", "unread")), exposedKey(named("nobody", "", "nobody"), unknown), exposedKey(named("<root_account>", "", "")),
			exposedKey(named("bare", "", "bare"), func(k *notice.ExposedKey) { k.Known = new(true) }))},
		"status-unknown": {Stage: "exposed", Exposure: exposure(exposedKey(func(k *notice.ExposedKey) { k.Status = new(iamkeys.Status("Suspended")) }))},
		"never-off":      {Stage: "failed", Exposure: exposure(exposedKey(was, func(k *notice.ExposedKey) { k.Throttled = new(key) })), Error: &notice.StepError{Name: "Throttled", Message: "AWS throttled every try to switch the key off for an hour."}},
		"left-by-hand":   {Stage: "failed", Exposure: exposure(exposedKey(func(k *notice.ExposedKey) { k.Left = new(key) }))},
		"off-late":       {Stage: "off", Exposure: exposure(exposedKey(was, off))},
		"left-late":      {Stage: "failed", Exposure: exposure(exposedKey(was, failed("Throttled")))},
		"of-every-other": {Stage: "exposed", Exposure: exposure(exposedKey(off), exposedKey(named("AKIANOSUCHKEY0000000", "AKIANOSUCHKEY0000000", ""), unknown), exposedKey(named("ASIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE", "")),
			exposedKey(named("arn:aws:iam::123456789012:root", "", "")), exposedKey(named("bare", "", "bare"), func(k *notice.ExposedKey) { k.Known = new(true) }), exposedKey(named("no <such> thing", "", "")), exposedKey(named("", "", "")),
			exposedKey(named("AKIAIAMKEYSTEST00009", "AKIAIAMKEYSTEST00009", "")))},
	} {
		t.Run(name, func(t *testing.T) {
			if err := in.Validate(); err != nil {
				t.Fatal(err)
			}
			a := iamkeystest.NewAccount()
			out, err := exposureNotifier(a.Start()).Run(t.Context(), in)
			if err != nil || out.MessageID == nil || len(a.Messages()) != 1 {
				t.Fatalf("got %+v, %v, messages %v", out, err, a.Messages())
			}
			golden(t, "exposure-"+name+".txt", written(a.Messages()[0]))
			chatted(t, a)
		})
	}
}

// written is a message as a golden file has it.
func written(m iamkeys.Message) string {
	var attributes strings.Builder
	for _, at := range m.Attributes {
		fmt.Fprintf(&attributes, "%s=%s\n", at.Name, at.Value)
	}
	return fmt.Sprintf("Subject: %s\n%s\n%s\n%s\n", m.Subject, attributes.String(), m.Text, m.JSON)
}

// People are told once, and hear of it whenever something was done. The marker comes after the message.
func TestExposureMarkers(t *testing.T) {
	told := func(k *notice.ExposedKey) { k.First = false }
	for _, c := range []struct {
		name   string
		stage  notice.Stage
		keys   []notice.ExposedKey
		sent   bool
		marked int
	}{
		{"new", "exposed", []notice.ExposedKey{exposedKey()}, true, 1},
		{"told before", "exposed", []notice.ExposedKey{exposedKey(told), exposedKey(told)}, false, 0},
		{"one of them new", "exposed", []notice.ExposedKey{exposedKey(told), exposedKey(func(k *notice.ExposedKey) { k.Entity = "other" })}, true, 1},
		{"two keys of one user", "exposed", []notice.ExposedKey{exposedKey(), exposedKey()}, true, 1},
		{"told before, switched off now", "exposed", []notice.ExposedKey{exposedKey(told, func(k *notice.ExposedKey) { k.Deactivate = true })}, true, 0},
		{"off at last", "off", []notice.ExposedKey{exposedKey(told)}, true, 0},
		{"nothing known", "exposed", nil, true, 0},
	} {
		for _, fault := range append([]iamkeystest.Fault{iamkeystest.None}, iamkeystest.Faults...) {
			for n := 1; n <= 2; n++ {
				a := iamkeystest.NewAccount()
				p := a.Start()
				p.Fault = func(call int, action string) iamkeystest.Fault {
					if call == n || n == 2 && action == "s3:PutObject" {
						return fault
					}
					return iamkeystest.None
				}
				var out notice.Output
				var err error
				p.Run(func() {
					out, err = notice.Notify{Send: notice.Send{SNS: p}, S3: p, Account: a.ID, Now: a.Now, Log: quiet}.Run(t.Context(), notice.Input{Stage: c.stage, Exposure: exposure(c.keys...)})
				})
				sent, marked := len(a.Messages()), len(a.Objects())
				if fault == iamkeystest.None && (sent != map[bool]int{true: 1}[c.sent] || marked != c.marked || err != nil || (out.MessageID != nil) != c.sent) {
					t.Errorf("%s: %d sent, %d marked, %v", c.name, sent, marked, err)
				}
				if marked > 0 && sent == 0 {
					t.Errorf("%s, %s at %d: marked, and nobody was told", c.name, fault, n)
				}
				if n == 2 && err != nil {
					t.Errorf("%s, %s at the marker: %v", c.name, fault, err)
				}
			}
		}
	}
	// The marker is the one that exposed looks for.
	a := iamkeystest.NewAccount()
	e := exposure(exposedKey())
	if _, err := exposureNotifier(a.Start()).Run(t.Context(), notice.Input{Stage: "exposed", Exposure: e}); err != nil {
		t.Fatal(err)
	}
	if _, ok := a.Objects()[iamkeys.ExposureMarker(e.Exposure, key)]; !ok {
		t.Errorf("there is no marker, but %v", a.Objects())
	}
}

// Each owner hears of their own keys alone.
func TestExposureOwners(t *testing.T) {
	of := func(id, name, owner string) notice.ExposedKey {
		return exposedKey(func(k *notice.ExposedKey) {
			k.Entity, k.AccessKeyID, k.UserName, k.Owner = id, &id, &name, iamkeys.Optional(owner)
		})
	}
	a := iamkeystest.NewAccount()
	in := notice.Input{Stage: "exposed", Exposure: exposure(of("AKIAIAMKEYSTEST00001", "alice", "one@example.com"), of("AKIAIAMKEYSTEST00002", "bob", "two@example.com"), of("AKIAIAMKEYSTEST00003", "carol", ""))}
	if _, err := exposureNotifier(a.Start()).Run(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct{ to, own, others string }{{"one@example.com", "alice", "bob"}, {"two@example.com", "bob", "alice"}} {
		m := a.Mails()[i]
		if m.To != want.to || !strings.Contains(m.Text, want.own) || strings.Contains(m.Text, want.others) || strings.Contains(m.Text, "carol") || !strings.Contains(m.Subject, want.own) {
			t.Errorf("got %+v", m)
		}
	}
	if m := a.Messages()[0]; len(a.Mails()) != 2 || !strings.Contains(m.Subject, "123456789012: 3 access keys were found in public") || !slices.Contains(m.Attributes, iamkeys.Attribute{Name: "severity", Value: "critical"}) {
		t.Errorf("%d mails; the topic got %s %v", len(a.Mails()), m.Subject, m.Attributes)
	}
}

// An event with thousands of entities is told, as far as a message reaches.
func TestExposureFits(t *testing.T) {
	keys := make([]notice.ExposedKey, 1000)
	for i := range keys {
		keys[i] = exposedKey(func(k *notice.ExposedKey) { k.Owner = new(strings.Repeat("é<\"", 25)) })
	}
	a := iamkeystest.NewAccount()
	if _, err := exposureNotifier(a.Start()).Run(t.Context(), notice.Input{Stage: "exposed", Exposure: exposure(keys...)}); err != nil {
		t.Fatal(err)
	}
	var said struct {
		Exposure struct {
			Keys    []any
			Omitted int
		}
	}
	m := a.Messages()[0]
	if err := json.Unmarshal(m.JSON, &said); err != nil || said.Exposure.Omitted == 0 || said.Exposure.Omitted+len(said.Exposure.Keys) != 1000 || !strings.Contains(m.Subject, "1,000") || !strings.Contains(m.Text, "keys more") {
		t.Errorf("%v: %d told, %d omitted, %s", err, len(said.Exposure.Keys), said.Exposure.Omitted, m.Subject)
	}
}
