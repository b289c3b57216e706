// Command merge is MergeFunction: it makes one report of the reports of all accounts in
// a run, stores it and sends it. The organization's workflow starts it. It refuses with
// InventoryUnavailable, StoreFailed, NotifyFailed.
package main

import (
	"log"
	"time"

	"iamkeys/pkg/awss3"
	"iamkeys/pkg/awssns"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/notice"
	"iamkeys/pkg/lambdafn"
	"iamkeys/pkg/render"
)

func main() {
	env := lambdafn.Environment()
	aws := env.AWS()
	topic := notice.Send{SNS: awssns.New(aws, env.NotificationTopicARN()), Emit: lambdafn.Emit, Log: env.Log()}
	if chat := env.ChatTopicARN(); chat != "" {
		topic.Chat = awssns.New(aws, chat)
	}
	op := audit.Merge{
		S3:      awss3.New(aws, env.ReportBucket()),
		SNS:     topic,
		Render:  audit.OrganizationRenderer{Text: render.OrganizationText, HTML: render.OrganizationHTML, CSV: render.OrganizationCSV},
		Message: notice.Organization(render.OrganizationText),
		Spool:   lambdafn.Spool,
		Account: env.AccountID(),
		Bucket:  env.ReportBucket(),
		Tell:    audit.Tell(env.Notify()),
		Emit:    lambdafn.Emit,
		Now:     time.Now,
		Log:     env.Log(),
	}
	if err := env.Err(); err != nil {
		log.Fatal(err)
	}
	lambdafn.Start(op.Run)
}
