package notice_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/iamkeystest"
	"iamkeys/pkg/iamkeys/notice"
)

var update = notice.Update

const (
	user   = "ci-deploy"
	secret = "iamkeys/ci-deploy/access-key"
)

var quiet = slog.New(slog.DiscardHandler)

func wantCode(t *testing.T, err error, want iamkeys.Code) {
	t.Helper()
	if got := iamkeys.CodeOf(err); got != want {
		t.Errorf("got %v, want code %q", err, want)
	}
}

// golden compares with the file, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (run with -update to accept):\n%s", path, got)
	}
}

func notifier(p *iamkeystest.Process) notice.Notify {
	return notice.Notify{Send: notice.Send{SNS: p}, Account: p.ID, Zone: time.UTC, Now: p.Now, Log: quiet}
}

// rotation gives one that is about to take the step.
func rotation(start iamkeys.Start) *notice.Rotation {
	r := &notice.Rotation{Rotation: iamkeys.Rotation{
		UserName: user, AccessKeyID: new("AKIAIAMKEYSTEST00001"), SecretID: new(secret), Owner: new("team-ci"),
		QuietHours: 168, PollSeconds: 21600, Polls: 120, RemindAtPoll: 60, SoakDays: 30,
	}}
	if start != "" {
		r.Start = &start
	}
	if start == iamkeys.StartDeactivate || start == iamkeys.StartSoak {
		r.NewAccessKeyID, r.SecretARN = new("AKIAIAMKEYSTEST00002"), new("arn:aws:secretsmanager:eu-west-1:123456789012:secret:iamkeys/ci-deploy/access-key-AbCdEf")
	}
	return r
}

const key = "AKIAIAMKEYSTEST00001"

// retirement gives one whose key is not off, off by it ("ours"), or off by another hand.
func retirement(off string) *notice.Retirement {
	r := &notice.Retirement{Retirement: iamkeys.Retirement{
		UserName: user, AccessKeyID: key, Owner: new("team-ci"), IdleDays: 104, Power: iamkeys.PowerUser, QuietHours: 2400,
		NoticeSeconds: 11 * 24 * 3600, FinalSeconds: 3 * 24 * 3600, SoakDays: 90,
	}}
	if off != "" {
		r.Ours = new(off == "ours")
	}
	return r
}

// Times are told where people are, also when the clocks there change meanwhile.
func TestNoticeZone(t *testing.T) {
	zone, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	a := iamkeystest.NewAccount()
	a.Advance(100 * 24 * time.Hour) // to Wed 2027-03-03 09:00 UTC; there the clocks change on 2027-03-14
	if _, err := (notice.Notify{Send: notice.Send{SNS: a.Start()}, Zone: zone, Now: a.Now, Log: quiet}).Run(t.Context(), notice.Input{Stage: "warning", Retirement: retirement("")}); err != nil {
		t.Fatal(err)
	}
	if m := a.Messages()[0]; !strings.Contains(m.Text, "Wed 2027-03-17 05:00 EDT") || !strings.HasSuffix(m.Subject, "on Wed 2027-03-17") {
		t.Errorf("got %s\n%s", m.Subject, m.Text)
	}
}

// However long a user's name is, the subject says what has happened.
func TestNoticeSubject(t *testing.T) {
	a := iamkeystest.NewAccount()
	r := retirement("")
	r.UserName = strings.Repeat("deploy-of-everything.", 6)
	if _, err := notifier(a.Start()).Run(t.Context(), notice.Input{Stage: "final", Retirement: r}); err != nil {
		t.Fatal(err)
	}
	if m := a.Messages()[0]; len(m.Subject) != 99 || !strings.HasPrefix(m.Subject, "IAM key retirement deploy-of") || !strings.HasSuffix(m.Subject, "...: last warning, will be switched off on Thu 2026-11-26") {
		t.Errorf("the subject is %q", m.Subject)
	}
}

// TestNotices holds every notice to its golden text.
func TestNotices(t *testing.T) {
	caused := func(name, message string) *notice.StepError {
		cause, _ := json.Marshal(map[string]string{"errorMessage": message, "errorType": name})
		return &notice.StepError{Name: name, Message: string(cause)}
	}
	due := &audit.DueOutput{
		Rotations: []audit.DueRotation{
			{UserName: "ci-deploy", AccessKeyID: "AKIAIAMKEYSTEST00001", SecretID: "iamkeys/ci-deploy/access-key", AgeDays: 97, Owner: new("team-ci")},
			{UserName: "mailer", AccessKeyID: "AKIAIAMKEYSTEST00003", SecretID: "iamkeys/mailer/access-key", AgeDays: 81},
		},
		Skipped:       []audit.SkippedUser{{UserName: "appliance", Reason: audit.SkipExempt}, {UserName: "old-partner", Reason: audit.SkipUnused, Date: new(iamkeystest.Epoch.Add(48 * time.Hour))}},
		SkippedCounts: map[audit.SkipReason]int{audit.SkipExempt: 1, audit.SkipUnused: 1},
		Coverage:      audit.Coverage{Users: 12, UsersExamined: 11, Keys: 15, KeysExamined: 14},
	}
	nominated := &audit.UnusedOutput{
		Retirements:   []audit.UnusedKey{{UserName: user, AccessKeyID: key, IdleDays: 104, Owner: new("team-ci"), Power: iamkeys.Admin}, {UserName: "mailer", AccessKeyID: "AKIAIAMKEYSTEST00003", IdleDays: 101}},
		Skipped:       []audit.SkippedKey{{UserName: "appliance", AccessKeyID: "AKIAIAMKEYSTEST00004", Reason: "exempt"}, {UserName: "partner", AccessKeyID: "AKIAIAMKEYSTEST00005", Reason: "kept", Date: new(iamkeystest.Epoch.Add(-48 * time.Hour))}},
		SkippedCounts: map[audit.SkipReason]int{"exempt": 1, "kept": 1},
		Coverage:      audit.Coverage{Users: 12, UsersExamined: 12, Keys: 15, KeysExamined: 15, Complete: true},
	}
	inUse := "Access key AKIAIAMKEYSTEST00001 of user ci-deploy was last used 2026-11-23T08:00:00Z by s3, created 2026-08-01T09:00:00Z: idle for 1 h, less than the quiet window of 168 h."
	smtp := rotation(iamkeys.StartDeactivate)
	smtp.ServiceName = new("ses")
	short := *rotation(iamkeys.StartDeactivate)
	short.QuietHours = 360 // as long as what is left after the reminder
	for name, in := range map[string]notice.Input{
		"ready":                       {Stage: "ready", Rotation: rotation(iamkeys.StartDeactivate)},
		"reminder-in-use":             {Stage: "reminder", Rotation: rotation(iamkeys.StartDeactivate), Error: caused("KeyInUse", inUse)},
		"reminder-not-adopted":        {Stage: "reminder", Rotation: rotation(iamkeys.StartDeactivate), Error: caused("NotAdopted", "Access key AKIAIAMKEYSTEST00002 of user ci-deploy is not in use yet (never used).")},
		"reminder-error":              {Stage: "reminder", Rotation: rotation(iamkeys.StartDeactivate), Error: caused("AccessDenied", "iam:ListAccessKeys on user ci-deploy is not permitted.")},
		"reminder-error-earlier":      {Stage: "reminder", Rotation: rotation(iamkeys.StartDeactivate), Error: caused("KeyInUse", inUse), EarlierError: caused("AccessDenied", "iam:ListAccessKeys on user ci-deploy is not permitted.")},
		"reminder-short":              {Stage: "reminder", Rotation: &short, Error: caused("KeyInUse", inUse), EarlierError: caused("KeyInUse", inUse)},
		"off-error-earlier":           {Stage: "off", Rotation: rotation(iamkeys.StartSoak), EarlierError: &notice.StepError{Name: "States.Timeout"}},
		"off":                         {Stage: "off", Rotation: rotation(iamkeys.StartSoak)},
		"done":                        {Stage: "done", Rotation: rotation(iamkeys.StartSoak)},
		"done-gone":                   {Stage: "done", Rotation: rotation(iamkeys.StartDeactivate)},
		"ready-smtp":                  {Stage: "ready", Rotation: smtp},
		"failed-plan-other-first":     {Stage: "failed", Rotation: rotation(""), Error: caused("InProgress", "Execution AKIAIAMKEYSTEST00001 of user ci-deploy was begun before, and is not finished.")},
		"failed-create-gone":          {Stage: "failed", Rotation: rotation(iamkeys.StartCreate), Error: caused("NoSuchEntity", "User ci-deploy does not exist.")},
		"failed-wait":                 {Stage: "failed", Rotation: rotation(iamkeys.StartDeactivate), Error: caused("AccessDenied", "iam:UpdateAccessKey on user ci-deploy is not permitted."), EarlierError: caused("KeyInUse", inUse)},
		"failed-wait-user-gone":       {Stage: "failed", Rotation: rotation(iamkeys.StartDeactivate), Error: caused("NoSuchEntity", "User ci-deploy does not exist.")},
		"failed-wait-untold":          {Stage: "failed", Rotation: rotation(iamkeys.StartDeactivate), Error: caused("NotifyFailed", "The notice ready could not be published (AccessDenied); nothing else has changed.")},
		"failed-soak-used":            {Stage: "failed", Rotation: rotation(iamkeys.StartSoak), Error: caused("KeyInUse", "Access key AKIAIAMKEYSTEST00001 of user ci-deploy was last used 2026-11-23T08:00:00Z by s3, later than 2026-11-13T08:00:00Z.")},
		"failed-soak-not-adopted":     {Stage: "failed", Rotation: rotation(iamkeys.StartSoak), Error: caused("NotAdopted", "Access key AKIAIAMKEYSTEST00002 of user ci-deploy is not in use yet (never used).")},
		"failed-soak-untold":          {Stage: "failed", Rotation: rotation(iamkeys.StartSoak), Error: caused("NotifyFailed", "The notice off could not be published (AccessDenied); nothing else has changed.")},
		"failed-soak-no-answer":       {Stage: "failed", Rotation: rotation(iamkeys.StartSoak), Error: caused("Throttled", "iam:ListAccessKeys on user ci-deploy was throttled.")},
		"failed-plan":                 {Stage: "failed", Rotation: rotation(""), Error: caused("AmbiguousKeys", "Which key of user ci-deploy to rotate cannot be told.")},
		"failed-create":               {Stage: "failed", Rotation: rotation(iamkeys.StartCreate), Error: caused("DeliveryFailed", "The new access key AKIAIAMKEYSTEST00002 of user ci-deploy was deleted again.")},
		"failed-create-orphan":        {Stage: "failed", Rotation: rotation(iamkeys.StartCreate), Error: caused("OrphanedKey", "Whether secret iamkeys/ci-deploy/access-key holds the new access key AKIAIAMKEYSTEST00002 of user ci-deploy is unknown.")},
		"failed-create-died":          {Stage: "failed", Rotation: rotation(iamkeys.StartCreate), Error: &notice.StepError{Name: "States.Timeout"}},
		"failed-in-use":               {Stage: "failed", Rotation: rotation(iamkeys.StartDeactivate), Error: caused("KeyInUse", inUse)},
		"failed-not-adopted":          {Stage: "failed", Rotation: rotation(iamkeys.StartDeactivate), Error: caused("NotAdopted", "Access key AKIAIAMKEYSTEST00002 of user ci-deploy is not in use yet (never used).")},
		"failed-wait-replaced":        {Stage: "failed", Rotation: rotation(iamkeys.StartDeactivate), Error: caused("NotReplaced", "Access key AKIAIAMKEYSTEST00002 of user ci-deploy is Inactive.")},
		"failed-soak-rolled-back":     {Stage: "failed", Rotation: rotation(iamkeys.StartSoak), Error: caused("RolledBack", "Access key AKIAIAMKEYSTEST00001 of user ci-deploy is Active.")},
		"failed-soak-replaced":        {Stage: "failed", Rotation: rotation(iamkeys.StartSoak), Error: caused("NotReplaced", "Access key AKIAIAMKEYSTEST00002 of user ci-deploy is Inactive.")},
		"failed-soak-user-gone":       {Stage: "failed", Rotation: rotation(iamkeys.StartSoak), Error: caused("NoSuchEntity", "User ci-deploy does not exist.")},
		"failed-soak":                 {Stage: "failed", Rotation: rotation(iamkeys.StartSoak), Error: caused("AccessDenied", "iam:DeleteAccessKey on user ci-deploy is not permitted.")},
		"retirement-warning":          {Stage: "warning", Retirement: retirement("")},
		"retirement-final":            {Stage: "final", Retirement: retirement("")},
		"retirement-retired":          {Stage: "retired", Retirement: retirement("ours")},
		"retirement-kept-in-use":      {Stage: "kept", Retirement: retirement(""), Error: caused("KeyInUse", "Access key AKIAIAMKEYSTEST00001 of user ci-deploy was last used 2026-11-22T08:00:00Z by s3 in eu-west-1.")},
		"retirement-kept-exempt":      {Stage: "kept", Retirement: retirement(""), Error: caused("KeyExempt", "User ci-deploy is exempt until 2027-01-31: quarterly job.")},
		"retirement-kept-protected":   {Stage: "kept", Retirement: retirement(""), Error: caused("Protected", "User ci-deploy has the tag iamkeys:protect.")},
		"retirement-kept-mode":        {Stage: "kept", Retirement: retirement(""), Error: caused("RetirementOff", "RetirementMode is plan.")},
		"retirement-kept-other-first": {Stage: "kept", Retirement: retirement(""), Error: caused("InProgress", "Execution AKIAIAMKEYSTEST00002 of user ci-deploy was begun before.")},
		"retirement-kept-user-gone":   {Stage: "kept", Retirement: retirement("ours"), Error: caused("NoSuchEntity", "User ci-deploy does not exist.")},
		"retirement-kept-not-ours":    {Stage: "kept", Retirement: retirement("not ours")},
		"retirement-kept-after-off":   {Stage: "kept", Retirement: retirement("ours"), Error: caused("KeyExempt", "User ci-deploy is exempt until 2027-01-31: quarterly job.")},
		"retirement-rolled-back":      {Stage: "rolledBack", Retirement: retirement("ours"), Error: caused("KeyActive", "Access key AKIAIAMKEYSTEST00001 of user ci-deploy is Active.")},
		"retirement-rolled-back-used": {Stage: "rolledBack", Retirement: retirement("ours"), Error: caused("KeyInUse", "Access key AKIAIAMKEYSTEST00001 of user ci-deploy was last used 2026-11-22T08:00:00Z by s3 in eu-west-1.")},
		"retirement-removed":          {Stage: "removed", Retirement: retirement("ours")},
		"retirement-failed-at-once":   {Stage: "failed", Retirement: &notice.Retirement{Retirement: iamkeys.Retirement{UserName: user, AccessKeyID: key}}, Error: caused("AccessDenied", "iam:GetUser on user ci-deploy is not permitted.")},
		"retirement-failed-untold":    {Stage: "failed", Retirement: retirement(""), Error: caused("NotifyFailed", "The notice warning could not be published (AccessDenied); nothing else has changed.")},
		"retirement-untold-off":       {Stage: "failed", Retirement: retirement("ours"), Error: caused("NotifyFailed", "The notice removed could not be published (AccessDenied); nothing else has changed.")},
		"retirement-untold-not-ours":  {Stage: "failed", Retirement: retirement("not ours"), Error: caused("NotifyFailed", "The notice kept could not be published (AccessDenied); nothing else has changed.")},
		"retirement-failed-died":      {Stage: "failed", Retirement: retirement(""), Error: &notice.StepError{Name: "States.Timeout"}},
		"retirement-failed-after-off": {Stage: "failed", Retirement: retirement("ours"), Error: caused("Throttled", "iam:ListAccessKeys on user ci-deploy was throttled.")},
		"retirement-planned":          {Stage: "planned", Unused: nominated},
		"retirement-started":          {Stage: "started", Unused: nominated},
		"planned":                     {Stage: "planned", Due: due},
		"started":                     {Stage: "started", Due: due},
	} {
		t.Run(name, func(t *testing.T) {
			if err := in.Validate(); err != nil {
				t.Fatal(err)
			}
			a := iamkeystest.NewAccount()
			out, err := notifier(a.Start()).Run(t.Context(), in)
			if err != nil || out.MessageID == nil || len(a.Messages()) != 1 {
				t.Fatalf("got %+v, %v, messages %v", out, err, a.Messages())
			}
			m := a.Messages()[0]
			var attributes strings.Builder
			for _, at := range m.Attributes {
				fmt.Fprintf(&attributes, "%s=%s\n", at.Name, at.Value)
			}
			golden(t, "notice-"+name+".txt", fmt.Sprintf("Subject: %s\n%s\n%s\n%s\n", m.Subject, attributes.String(), m.Text, m.JSON))
			for line := range strings.Lines(m.Text) {
				if len(line) > 73 && len(strings.Fields(line)) > 4 {
					t.Errorf("%d columns: %s", len(line), line)
				}
			}
		})
	}
}

func TestNotify(t *testing.T) {
	a := iamkeystest.NewAccount()
	out, err := notifier(a.Start()).Run(t.Context(), notice.Input{Stage: "planned", Due: &audit.DueOutput{}})
	if err != nil || out.MessageID != nil || len(a.Messages()) > 0 {
		t.Errorf("nothing due: got %+v, %v and the messages %v", out, err, a.Messages())
	}

	p := a.Start()
	p.Fault = func(int, string) iamkeystest.Fault { return iamkeystest.Refused }
	_, err = notifier(p).Run(t.Context(), notice.Input{Stage: "ready", Rotation: rotation(iamkeys.StartDeactivate)})
	wantCode(t, err, iamkeys.NotifyFailed)

	hostile := rotation(iamkeys.StartDeactivate)
	injected := "a\r\n\r\nBcc: everybody\x1b[2J\u202e"
	hostile.Owner, hostile.AccessKeyID, hostile.SecretID = new(injected+strings.Repeat("é", 300)), &injected, &injected
	if _, err := notifier(a.Start()).Run(t.Context(), notice.Input{Stage: "ready", Rotation: hostile}); err != nil {
		t.Fatal(err)
	}
	if _, err := notifier(a.Start()).Run(t.Context(), notice.Input{Stage: "planned", Due: &audit.DueOutput{
		Rotations: []audit.DueRotation{{UserName: injected, AccessKeyID: injected, SecretID: injected, Owner: &injected}},
		Skipped:   []audit.SkippedUser{{UserName: injected, Reason: audit.SkipReason(injected)}}, SkippedCounts: map[audit.SkipReason]int{audit.SkipReason(injected): 1},
	}}); err != nil {
		t.Fatal(err)
	}
	for _, m := range a.Messages() {
		if strings.ContainsAny(m.Text+m.Subject, "\r\x1b\u202e") || strings.Contains(m.Text, "\n\nBcc") {
			t.Errorf("hostile text comes through: %q", m.Text)
		}
	}
	m := a.Messages()[0]
	for _, at := range m.Attributes {
		if len(at.Value) > 256 || strings.ContainsAny(at.Value, "\r\n\x1b") {
			t.Errorf("attribute %s is %q", at.Name, at.Value)
		}
	}

	endless := &notice.StepError{Name: "Internal", Message: strings.Repeat("\x00é", 200_000)}
	if _, err := notifier(a.Start()).Run(t.Context(), notice.Input{Stage: "failed", Rotation: hostile, Error: endless, EarlierError: &notice.StepError{Name: "KeyInUse", Message: endless.Message}}); err != nil {
		t.Fatal(err)
	}
	if m := a.Messages()[2]; len(m.Body()) > 200_000 {
		t.Errorf("%d bytes", len(m.Body()))
	}

	odd := func(change func(*notice.Retirement)) *notice.Retirement {
		r := &notice.Retirement{Retirement: iamkeys.Retirement{UserName: user, AccessKeyID: key, SoakDays: 90}}
		change(r)
		return r
	}
	page := strings.Repeat("A", 200_000) // an execution's input may be as long
	for _, in := range []notice.Input{
		{Stage: "failed", Rotation: &notice.Rotation{Rotation: iamkeys.Rotation{UserName: user, AccessKeyID: &page}}},
		{Stage: "failed", Retirement: &notice.Retirement{Retirement: iamkeys.Retirement{UserName: user, AccessKeyID: page}}},
	} {
		if _, err := notifier(a.Start()).Run(t.Context(), in); err != nil {
			t.Errorf("a page in place of a key's ID: %v", err)
		}
		if all := a.Messages(); len(all[len(all)-1].Body()) > 5000 {
			t.Errorf("a page in place of a key's ID: %d bytes", len(all[len(all)-1].Body()))
		}
	}

	for _, in := range []notice.Input{
		{Stage: "ready", Rotation: &notice.Rotation{Rotation: iamkeys.Rotation{UserName: user}}}, {Stage: "planned", Due: &audit.DueOutput{}, Error: &notice.StepError{Name: "Internal"}},
		{}, {Stage: "soon"}, {Stage: "ready"}, {Stage: "planned"}, {Stage: "ready", Rotation: &notice.Rotation{}},
		{Stage: "ready", Due: &audit.DueOutput{}}, {Stage: "planned", Rotation: hostile}, {Stage: "started", Rotation: hostile}, {Stage: "off", Retirement: retirement("ours")},
		{Stage: "planned", Due: &audit.DueOutput{}, Rotation: hostile}, {Stage: "ready", Due: &audit.DueOutput{}, Rotation: hostile},
		{Stage: "warning", Retirement: odd(func(r *notice.Retirement) { r.AccessKeyID = "<b>" })}, {Stage: "warning", Retirement: odd(func(r *notice.Retirement) { r.IdleDays = -1 })},
		{Stage: "warning", Retirement: odd(func(r *notice.Retirement) { r.NoticeSeconds = 1 << 60 })}, {Stage: "retired", Retirement: odd(func(r *notice.Retirement) { r.SoakDays = -1 })},
		{Stage: "ready", Rotation: &notice.Rotation{Rotation: iamkeys.Rotation{UserName: user, AccessKeyID: new(key), SecretID: new("s"), Polls: 10_000, PollSeconds: 1 << 40}}},
	} {
		if err := in.Validate(); iamkeys.CodeOf(err) != iamkeys.InvalidInput {
			t.Errorf("%+v: got %v, want InvalidInput", in, err)
		}
		var e *iamkeys.Error
		if errors.As(in.Validate(), &e) && e.Message == "" {
			t.Errorf("%+v: no message", in)
		}
	}
}
