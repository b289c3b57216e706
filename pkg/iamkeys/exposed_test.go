package iamkeys_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

func exposer(p *iamkeystest.Process, mode iamkeys.ExposureMode) iamkeys.Exposed {
	return iamkeys.Exposed{IAM: p, S3: p, Account: p.ID, Mode: mode, UserPath: "/", OwnerTag: "owner", Now: p.Now, Log: quiet}
}

// A health is an event of AWS Health in its documented shape, with these differences.
type health struct {
	code, status, account, affected string
	entities                        []string
	without                         string // a field of detail that is missing
	set                             map[string]any
}

func (h health) event() json.RawMessage {
	entities := []map[string]any{}
	for _, e := range h.entities {
		entities = append(entities, map[string]any{"entityValue": e, "status": "IMPAIRED", "lastUpdatedTime": "Mon, 23 Nov 2026 08:55:00 GMT"})
	}
	or := func(s, otherwise string) string {
		if s == "" {
			return otherwise
		}
		return s
	}
	detail := map[string]any{
		"eventArn": "arn:aws:health:us-east-1::event/RISK/AWS_RISK_CREDENTIALS_EXPOSED/1a2b3c", "service": "RISK", "eventTypeCode": or(h.code, "AWS_RISK_CREDENTIALS_EXPOSED"), "eventTypeCategory": "issue",
		"eventRegion": "us-east-1", "startTime": "Mon, 23 Nov 2026 08:55:00 GMT", "lastUpdatedTime": "Mon, 23 Nov 2026 08:55:00 GMT", "statusCode": or(h.status, "open"), "eventScopeCode": "ACCOUNT_SPECIFIC",
		"communicationId": "1a2b3c", "page": "1", "totalPages": "1", "affectedAccount": or(h.affected, iamkeystest.NewAccount().ID), "backupEvent": "false",
		"eventDescription": []map[string]string{{"language": "en_US", "latestDescription": "A key was found."}}, "affectedEntities": entities,
	}
	for name, value := range h.set {
		detail[name] = value
	}
	delete(detail, h.without)
	content, _ := json.Marshal(map[string]any{
		"version": "0", "id": "7bf73129-1428-4cd3-a780-95db273d1602", "detail-type": "AWS Health Event", "source": "aws.health", "account": or(h.account, iamkeystest.NewAccount().ID),
		"time": "2026-11-23T08:57:00Z", "region": "us-east-1", "resources": h.entities, "detail": detail,
	})
	return content
}

// exposed asks, as the execution, and gives each key in short: what is known of it, then whether it is
// told first and switched off.
func exposed(t *testing.T, o iamkeys.Exposed, h health, execution string) (iamkeys.Exposure, []string) {
	t.Helper()
	in := iamkeys.ExposedInput{Event: h.event(), Execution: execution}
	if err := in.Validate(); err != nil {
		t.Fatal(err)
	}
	out, err := o.Run(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	var short []string
	text := func(v any) string {
		if r := reflect.ValueOf(v); !r.IsNil() {
			return fmt.Sprint(r.Elem())
		}
		return "-"
	}
	for _, k := range out.Keys {
		said := []string{k.Entity, text(k.AccessKeyID), text(k.UserName), text(k.Status), text(k.Known)}
		if k.First {
			said = append(said, "first")
		}
		if k.Deactivate {
			said = append(said, "deactivate")
		}
		short = append(short, strings.Join(said, " "))
	}
	return out, short
}

func TestExposed(t *testing.T) {
	const key, second, other, unknownKey = "AKIAIAMKEYSTEST00001", "AKIAIAMKEYSTEST00002", "AKIAIAMKEYSTEST00003", "AKIANOSUCHKEY0000000"
	account := func() *iamkeystest.Account {
		a := iamkeystest.NewAccount()
		a.AddUser("leaky", iamkeys.Tag{Key: "Owner", Value: "team-ci"})
		a.AddUser("guarded", iamkeys.Tag{Key: "iamkeys:protect", Value: "no"})
		a.AddKey("leaky", 50*day)
		a.AddKey("leaky", 10*day)
		a.AddKey("guarded", 10*day)
		a.UsedAgo(key, 3*day, "s3", "eu-west-1")
		return a
	}
	inactive := func(a *iamkeystest.Account) { a.SetStatus("leaky", key, iamkeys.Inactive) }
	for name, c := range map[string]struct {
		health
		mode iamkeys.ExposureMode
		path string
		with func(*iamkeystest.Account)
		want []string
	}{
		"told":                      {health: health{entities: []string{key}}, mode: "tell", want: []string{key + " " + key + " leaky Active true first"}},
		"switched off":              {health: health{entities: []string{key}}, mode: "deactivate", want: []string{key + " " + key + " leaky Active true first deactivate"}},
		"several":                   {health: health{entities: []string{key, other, key, unknownKey}}, mode: "deactivate", want: []string{key + " " + key + " leaky Active true first deactivate", other + " " + other + " guarded Active true first", unknownKey + " " + unknownKey + " - - false first"}},
		"no entity":                 {mode: "deactivate", want: []string{" - - - - first"}},
		"entities of no kind":       {health: health{set: map[string]any{"affectedEntities": "AKIA"}}, mode: "deactivate", want: []string{" - - - - first"}},
		"by the user":               {health: health{entities: []string{"leaky"}}, mode: "deactivate", want: []string{"leaky " + key + " leaky Active true first", "leaky " + second + " leaky Active true first"}},
		"by the user's ARN":         {health: health{entities: []string{"arn:aws:iam::123456789012:user/leaky"}}, mode: "deactivate", with: inactive, want: []string{"arn:aws:iam::123456789012:user/leaky " + second + " leaky Active true first"}},
		"a user unknown":            {health: health{entities: []string{"nobody"}}, mode: "deactivate", want: []string{"nobody - nobody - false first"}},
		"a user without keys":       {health: health{entities: []string{"bare"}}, mode: "deactivate", with: func(a *iamkeystest.Account) { a.AddUser("bare") }, want: []string{"bare - bare - true first"}},
		"root":                      {health: health{entities: []string{"root", "arn:aws:iam::123456789012:root"}}, mode: "deactivate", want: []string{"root - - - - first", "arn:aws:iam::123456789012:root - - - - first"}},
		"temporary":                 {health: health{entities: []string{"ASIAIOSFODNN7EXAMPLE"}}, mode: "deactivate", want: []string{"ASIAIOSFODNN7EXAMPLE ASIAIOSFODNN7EXAMPLE - - - first"}},
		"a user named so":           {health: health{entities: []string{"ASIA-team"}}, mode: "deactivate", with: func(a *iamkeystest.Account) { a.AddUser("ASIA-team") }, want: []string{"ASIA-team - ASIA-team - true first"}},
		"a long name":               {health: health{entities: []string{strings.Repeat("n", 128)}}, mode: "deactivate", want: []string{strings.Repeat("n", 128) + " - " + strings.Repeat("n", 128) + " - false first"}},
		"anything":                  {health: health{entities: []string{"https://example.com/<script>"}}, mode: "deactivate", want: []string{"https://example.com/<script> - - - - first"}},
		"another account's":         {health: health{entities: []string{key, "leaky"}, affected: "210987654321"}, mode: "deactivate", want: []string{key + " " + key + " - - - first", "leaky - - - - first"}},
		"another's ARN":             {health: health{entities: []string{"arn:aws:iam::210987654321:user/ci/leaky"}}, mode: "deactivate", want: []string{"arn:aws:iam::210987654321:user/ci/leaky - leaky - - first"}},
		"account of the event":      {health: health{entities: []string{key}, without: "affectedAccount"}, mode: "deactivate", want: []string{key + " " + key + " leaky Active true first deactivate"}},
		"off already":               {health: health{entities: []string{key}}, mode: "deactivate", with: inactive, want: []string{key + " " + key + " leaky Inactive true first"}},
		"gone":                      {health: health{entities: []string{key}}, mode: "deactivate", with: func(a *iamkeystest.Account) { a.DeleteKey("leaky", key) }, want: []string{key + " " + key + " - - false first"}},
		"gone, and denied":          {health: health{entities: []string{unknownKey}}, mode: "deactivate", with: func(a *iamkeystest.Account) { a.DeniesUnknown = true }, want: []string{unknownKey + " " + unknownKey + " - - false first"}},
		"a user who cannot be read": {health: health{entities: []string{"nobody"}}, mode: "deactivate", with: func(a *iamkeystest.Account) { a.DeniesUnknown = true }, want: []string{"nobody - nobody - - first"}},
		"closed":                    {health: health{entities: []string{key}, status: "closed"}, mode: "deactivate", want: []string{key + " " + key + " leaky Active true first"}},
		"a suspicion":               {health: health{entities: []string{key}, code: "AWS_RISK_CREDENTIALS_EXPOSURE_SUSPECTED"}, mode: "deactivate", want: []string{key + " " + key + " leaky Active true first"}},
		"quarantine":                {health: health{entities: []string{key}, code: "AWS_RISK_IAM_QUARANTINE"}, mode: "deactivate", want: []string{key + " " + key + " leaky Active true first"}},
		"outside the path":          {health: health{entities: []string{key}}, mode: "deactivate", path: "/ci/", want: []string{key + " " + key + " leaky Active true first"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := account()
			if c.with != nil {
				c.with(a)
			}
			o := exposer(a.Start(), c.mode)
			if c.path != "" {
				o.UserPath = c.path
			}
			out, got := exposed(t, o, c.health, "execution-1")
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			if name == "told" {
				k := out.Keys[0]
				if *k.Owner != "team-ci" || k.Power != iamkeys.NoPower || !k.LastUsedDate.Equal(iamkeystest.Epoch.Add(-3*day)) || out.EventTypeCode != "AWS_RISK_CREDENTIALS_EXPOSED" || out.Account != a.ID {
					t.Errorf("got %+v", out)
				}
			}
		})
	}
}

// A key is switched off once: not again by another execution, nor for another event,
// after somebody has switched it on again. The execution that has it may ask again.
func TestExposedOnce(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser("leaky")
	key := a.AddKey("leaky", 10*day)
	wants := func(execution string, h health, want bool) {
		t.Helper()
		h.entities = []string{key}
		out, _ := exposed(t, exposer(a.Start(), iamkeys.ExposureDeactivate), h, execution)
		if out.Keys[0].Deactivate != want {
			t.Errorf("%s: deactivate is %t", execution, out.Keys[0].Deactivate)
		}
	}
	wants("told", health{status: "closed"}, false)
	if _, claimed := a.Objects()["markers/off/"+a.ID+"/"+key+".json"]; claimed {
		t.Error("a key that is left alone is claimed")
	}
	wants("first", health{}, true)
	wants("first", health{}, true) // a repeat, or asked again
	wants("second", health{}, false)
	a.SetStatus("leaky", key, iamkeys.Inactive)
	wants("first", health{}, false)
	a.SetStatus("leaky", key, iamkeys.Active) // a person went back on it
	wants("second", health{}, false)
	wants("third", health{set: map[string]any{"eventArn": "arn:aws:health:us-east-1::event/RISK/other"}}, false)
	a.SetObject("markers/off/"+a.ID+"/"+key+".json", []byte("{"))
	wants("first", health{}, false)
}

// People are told once of an event, an account, an entity and a status: of AWS Health's
// updates of the same event not again, until the event is closed.
func TestExposedFirst(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser("leaky")
	key, second := a.AddKey("leaky", 10*day), a.AddKey("leaky", 5*day)
	told := func(h health) string {
		out, _ := exposed(t, exposer(a.Start(), iamkeys.ExposureTell), h, "execution")
		var first []string
		for _, k := range out.Keys {
			if k.First {
				first = append(first, k.Entity)
			}
			a.SetObject(iamkeys.ExposureMarker(out, k.Entity), []byte("{}")) // as notify does after sending
		}
		return strings.Join(first, " ")
	}
	for _, step := range []struct {
		health
		want string
	}{
		{health{entities: []string{key}}, key},
		{health{entities: []string{key}, set: map[string]any{"lastUpdatedTime": "Mon, 23 Nov 2026 10:55:00 GMT", "communicationId": "2"}}, ""},
		{health{entities: []string{key}, set: map[string]any{"backupEvent": "true", "eventRegion": "us-west-2"}}, ""},
		{health{entities: []string{key, second}}, second},
		{health{entities: []string{key}, status: "closed"}, key},
		{health{entities: []string{key}, affected: "210987654321"}, key},
		{health{entities: []string{key}, set: map[string]any{"eventArn": "arn:aws:health:us-east-1::event/RISK/other"}}, key},
	} {
		if got := told(step.health); got != step.want {
			t.Errorf("%+v: told first of %q, want %q", step.health, got, step.want)
		}
	}
}

// Whichever call fails, the event is told: what could not be read is null, and nothing is
// to be switched off of which anything that decides is not known.
func TestExposedUnderFaults(t *testing.T) {
	for _, fault := range iamkeystest.Faults {
		for n := 1; ; n++ {
			a := iamkeystest.NewAccount()
			a.AddUser("leaky", iamkeys.Tag{Key: "owner", Value: "team"})
			a.AttachToGroup("admins", "arn:aws:iam::aws:policy/AdministratorAccess")
			a.Join("leaky", "admins")
			key := a.AddKey("leaky", 10*day)
			p := a.Start()
			p.Fault = func(call int, _ string) iamkeystest.Fault {
				if call == n {
					return fault
				}
				return iamkeystest.None
			}
			var out iamkeys.Exposure
			died := p.Run(func() {
				out, _ = exposed(t, exposer(p, iamkeys.ExposureDeactivate), health{entities: []string{key, "AKIANOSUCHKEY0000000"}}, "execution")
			})
			if len(p.Calls) < n {
				if n < 9 || out.Keys[0].Power != iamkeys.Admin || !out.Keys[0].Deactivate {
					t.Errorf("undisturbed, after %v: %+v", p.Calls, out.Keys[0])
				}
				break
			}
			action := p.Calls[n-1]
			if died { // then it is repeated
				out, _ = exposed(t, exposer(a.Start(), iamkeys.ExposureDeactivate), health{entities: []string{key, "AKIANOSUCHKEY0000000"}}, "execution")
				if !out.Keys[0].Deactivate {
					t.Errorf("%s at %s: the repeat leaves the key on", fault, action)
				}
			}
			if len(out.Keys) != 2 || !out.Keys[0].First || !out.Keys[1].First {
				t.Fatalf("%s at %s: got %+v", fault, action, out)
			}
			k := out.Keys[0]
			lost := k.Status == nil || k.UserName == nil || k.Known == nil
			if k.Deactivate && (lost || *k.Status != iamkeys.Active) {
				t.Errorf("%s at %s: %+v is to be switched off", fault, action, k)
			}
			if k.Power != iamkeys.Admin && k.Power != iamkeys.UnknownPower {
				t.Errorf("%s at %s: its power is %q", fault, action, k.Power)
			}
			if marked := a.Objects()["markers/off/"+a.ID+"/"+key+".json"].Content != nil; k.Deactivate && !marked {
				t.Errorf("%s at %s: switched off without a marker", fault, action)
			}
		}
	}
}

// Time that runs out keeps nothing back.
func TestExposedInTime(t *testing.T) {
	a := iamkeystest.NewAccount()
	a.AddUser("leaky")
	h := health{}
	for range 300 {
		h.entities = append(h.entities, a.AddKey("leaky", day))
	}
	ctx, cancel := context.WithCancel(t.Context())
	p := a.Start()
	p.Before = func(n int, _ string) {
		if n == 100 {
			cancel()
		}
	}
	out, err := exposer(p, iamkeys.ExposureDeactivate).Run(ctx, iamkeys.ExposedInput{Event: h.event(), Execution: "execution"})
	if err != nil || len(out.Keys) != 300 || !slices.ContainsFunc(out.Keys, func(k iamkeys.ExposedKey) bool { return k.Status != nil }) || out.Keys[299].Status != nil || !out.Keys[299].First || out.Keys[299].Deactivate {
		t.Errorf("got %d keys, %v", len(out.Keys), err)
	}
}

func TestExposedInput(t *testing.T) {
	for _, event := range []string{"", "null", "[]", `"event"`, "{}", `{"detail-type":"AWS Health Event"}`} {
		wantCode(t, iamkeys.ExposedInput{Event: json.RawMessage(event), Execution: "execution"}.Validate(), iamkeys.InvalidInput)
	}
	wantCode(t, iamkeys.ExposedInput{Event: health{}.event()}.Validate(), iamkeys.InvalidInput)
}

// A hundred entities are looked up some at a time, and answered in the event's order.
func TestExposedOfAHundred(t *testing.T) {
	a := iamkeystest.NewAccount()
	var h health
	for i := range 100 {
		user := fmt.Sprintf("user-%d", i)
		a.AddUser(user)
		h.entities = append(h.entities, a.AddKey(user, 10*day))
	}
	o := exposer(a.Start(), "deactivate")
	meeting := &meeting{ExposedIAM: o.IAM, all: make(chan struct{})}
	o.IAM = meeting
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := o.Run(ctx, iamkeys.ExposedInput{Event: h.event(), Execution: "x"})
	if err != nil || len(out.Keys) != 100 {
		t.Fatalf("%d keys, %v", len(out.Keys), err)
	}
	for i, k := range out.Keys {
		if k.Entity != h.entities[i] || !k.Deactivate || *k.UserName != fmt.Sprintf("user-%d", i) {
			t.Errorf("%d: got %+v", i, k)
		}
	}
}

// A meeting lets nobody go on until eight have come.
type meeting struct {
	iamkeys.ExposedIAM
	came atomic.Int32
	all  chan struct{}
}

func (m *meeting) GetAccessKeyLastUsed(ctx context.Context, id string) (iamkeys.LastUsed, error) {
	if m.came.Add(1) == 8 {
		close(m.all)
	}
	select {
	case <-m.all:
		return m.ExposedIAM.GetAccessKeyLastUsed(ctx, id)
	case <-ctx.Done():
		return iamkeys.LastUsed{}, ctx.Err()
	}
}
