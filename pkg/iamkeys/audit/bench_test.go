package audit

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
)

// readyIAM is IAM that has its answers ready.
type readyIAM struct {
	content []byte
	users   []iamkeys.User
	keys    map[string][]iamkeys.AccessKey
}

func (i readyIAM) GenerateCredentialReport(context.Context) (bool, error) { return true, nil }

func (i readyIAM) GetCredentialReport(context.Context) ([]byte, time.Time, error) {
	return i.content, now, nil
}

func (i readyIAM) GetAccountAuthorizationDetails(context.Context) ([]iamkeys.User, error) {
	return i.users, nil
}

func (i readyIAM) GetAccountSummary(context.Context) (bool, error) { return false, nil }

func (i readyIAM) ListAccessKeys(_ context.Context, userName string) ([]iamkeys.AccessKey, error) {
	return i.keys[userName], nil
}

func (i readyIAM) GetAccessKeyLastUsed(context.Context, string) (iamkeys.LastUsed, error) {
	return iamkeys.LastUsed{}, iamkeys.Refuse(iamkeys.AccessDenied, "the credential report says it")
}

// crowded has that many users with two keys each, 50 of which are overdue.
func crowded(users int) readyIAM {
	i := readyIAM{keys: map[string][]iamkeys.AccessKey{}}
	var b bytes.Buffer
	b.WriteString("user,arn,user_creation_time,password_enabled,password_last_used,password_last_changed,password_next_rotation,mfa_active," +
		"access_key_1_active,access_key_1_last_rotated,access_key_1_last_used_date,access_key_1_last_used_region,access_key_1_last_used_service," +
		"access_key_2_active,access_key_2_last_rotated,access_key_2_last_used_date,access_key_2_last_used_region,access_key_2_last_used_service," +
		"cert_1_active,cert_1_last_rotated,cert_2_active,cert_2_last_rotated")
	stamp := func(t time.Time) string { return t.Format(time.RFC3339) }
	for n := range users {
		name := fmt.Sprintf("user-%05d", n)
		u := iamkeys.User{UserName: name, ARN: "arn:aws:iam::123456789012:user/" + name, CreateDate: now.AddDate(-2, 0, 0), Tags: []iamkeys.Tag{{Key: "team", Value: "x"}, {Key: "owner", Value: "team@example.com"}}}
		old, young := now.AddDate(0, 0, -n%60-10), now.AddDate(0, 0, -5)
		if n < 50 {
			old = now.AddDate(0, 0, -200)
		}
		fmt.Fprintf(&b, "\n%s,%s,%s,false,N/A,N/A,N/A,false,true,%s,%s,N/A,s3,true,%s,%s,eu-west-1,ec2,false,N/A,false,N/A", name, u.ARN, stamp(u.CreateDate),
			stamp(old), stamp(now.AddDate(0, 0, -1)), stamp(young), stamp(now.AddDate(0, 0, -2)))
		i.users = append(i.users, u)
		i.keys[name] = []iamkeys.AccessKey{
			{UserName: name, AccessKeyID: fmt.Sprintf("AKIAIAMKEYS%09d", 2*n), Status: iamkeys.Active, CreateDate: old},
			{UserName: name, AccessKeyID: fmt.Sprintf("AKIAIAMKEYS%09d", 2*n+1), Status: iamkeys.Active, CreateDate: young},
		}
	}
	i.content = b.Bytes()
	return i
}

// BenchmarkParseAndJudge is all that an audit does between IAM's answers and the report.
func BenchmarkParseAndJudge(b *testing.B) {
	t := Thresholds{UnusedDays: 45, MaxAgeDays: 90, WarnAgeDays: 75, LingerDays: 90, MaxWaitDays: 45}
	for _, users := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprintf("users=%d", users), func(b *testing.B) {
			o := TakeInventory{IAM: crowded(users), ReportWait: time.Minute, Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)}
			b.ReportAllocs()
			for b.Loop() {
				inv, err := o.Run(b.Context(), FromCredentialReport, func(u UserFacts) bool { return len(judgeUser(u, t, "owner", now)) > 0 })
				if err != nil {
					b.Fatal(err)
				}
				if r := Judge(inv, t, "owner", now); r.Summary.Rules[Overdue] != 50 || !r.Summary.Coverage.Complete || r.Summary.Coverage.Keys != 2*users {
					b.Fatalf("%+v", r.Summary)
				}
			}
		})
	}
}
