// Command audit is AuditFunction: it finds stale access keys, stores a report and sends
// it. A schedule starts it, a person, or the organization's workflow for each account. It
// refuses with InventoryUnavailable, StoreFailed, NotifyFailed, RoleUnavailable.
package main

import (
	"log"
	"time"

	"iamkeys/pkg/awsiam"
	"iamkeys/pkg/awss3"
	"iamkeys/pkg/awssecurityhub"
	"iamkeys/pkg/awssns"
	"iamkeys/pkg/awssts"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/notice"
	"iamkeys/pkg/lambdafn"
	"iamkeys/pkg/render"
)

func main() {
	env := lambdafn.Environment()
	aws := env.AWS()
	iam := awsiam.NewForAudit(aws)
	topic := notice.Send{SNS: awssns.New(aws, env.NotificationTopicARN()), Emit: lambdafn.Emit, Log: env.Log()}
	if chat := env.ChatTopicARN(); chat != "" {
		topic.Chat = awssns.New(aws, chat)
	}
	op := audit.Audit{
		Inventory: audit.TakeInventory{IAM: iam, ReportWait: env.ReportWait(), Now: time.Now, Sleep: lambdafn.Sleep, Log: env.Log()},
		S3:        awss3.New(aws, env.ReportBucket()),
		SNS:       topic,
		STS:       awssts.New(aws),
		As: func(s iamkeys.Session) audit.Access {
			iam := awsiam.NewForAudit(awssts.As(aws, s))
			return audit.Access{IAM: iam, SecurityHub: awssecurityhub.New(awssts.As(aws, s)), Calls: iam.Calls}
		},
		SecurityHub: awssecurityhub.New(aws), SendsFindings: env.SecurityHub(), Region: aws.Region,
		Role:    audit.MemberRole{Partition: env.Partition(), Path: env.RolePath(), Name: env.MemberRole(), ExternalID: env.ExternalID()},
		Render:  audit.Renderer{Text: render.Text, CSV: render.CSV, HTML: render.HTML},
		Message: notice.Report(render.Text),
		Account: env.AccountID(),
		Bucket:  env.ReportBucket(),
		Thresholds: audit.Thresholds{
			UnusedDays: env.UnusedDays(), MaxAgeDays: env.MaxAgeDays(), WarnAgeDays: env.WarnAgeDays(), LingerDays: env.LingerDays(), MaxWaitDays: env.MaxWaitDays(),
		},
		OwnerTag:  env.OwnerTag(),
		Tell:      audit.Tell(env.Notify()),
		RequestID: lambdafn.RequestID,
		Calls:     iam.Calls,
		Emit:      lambdafn.Emit,
		Now:       time.Now,
		Log:       env.Log(),
	}
	if err := env.Err(); err != nil {
		log.Fatal(err)
	}
	lambdafn.StartScheduled(op.Run, func(at time.Time) audit.Input { return audit.Input{EventTime: at} })
}
