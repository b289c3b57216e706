// Command notify is NotifyFunction: it tells people where a key stands and what schedules
// nominate. The workflows start it. It refuses with NotifyFailed.
package main

import (
	"log"
	"time"
	_ "time/tzdata" // Lambda's system may hold no time zones

	"iamkeys/pkg/awss3"
	"iamkeys/pkg/awsses"
	"iamkeys/pkg/awssns"
	"iamkeys/pkg/iamkeys/notice"
	"iamkeys/pkg/lambdafn"
)

func main() {
	env := lambdafn.Environment()
	aws := env.AWS()
	op := notice.Notify{
		Send: notice.Send{
			SNS:    awssns.New(aws, env.NotificationTopicARN()),
			Owners: notice.Owners{Domains: env.OwnerMailDomains()},
			Emit:   lambdafn.Emit,
			Log:    env.Log(),
		},
		S3:      awss3.New(aws, env.ReportBucket()),
		Account: env.AccountID(),
		Zone:    env.Zone(),
		Now:     time.Now,
		Log:     env.Log(),
	}
	if sender := env.SenderAddress(); sender != "" {
		op.Send.SES = awsses.New(aws, sender)
	}
	if topic := env.ChatTopicARN(); topic != "" {
		op.Send.Chat = awssns.New(aws, topic)
	}
	if err := env.Err(); err != nil {
		log.Fatal(err)
	}
	lambdafn.Start(op.Run)
}
