// Command digest is DigestFunction: it mails each owner what an audit found of their
// users' keys, when something of it is new to them, and tells the security team what no
// owner hears of. What an audit answers starts it, or the organization's workflow. It
// refuses with StoreFailed, NotifyFailed.
package main

import (
	"log"
	"time"

	"iamkeys/pkg/awss3"
	"iamkeys/pkg/awsses"
	"iamkeys/pkg/awssns"
	"iamkeys/pkg/iamkeys/notice"
	"iamkeys/pkg/lambdafn"
)

func main() {
	env := lambdafn.Environment()
	aws := env.AWS()
	op := notice.Digest{
		Send: notice.Send{
			SNS:    awssns.New(aws, env.NotificationTopicARN()),
			Owners: notice.Owners{Domains: env.OwnerMailDomains()},
			Emit:   lambdafn.Emit,
			Log:    env.Log(),
		},
		S3:       awss3.New(aws, env.ReportBucket()),
		Bucket:   env.ReportBucket(),
		OwnerTag: env.OwnerTag(),
		Now:      time.Now,
		Log:      env.Log(),
	}
	if sender := env.SenderAddress(); sender != "" && env.Notify() != "never" {
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
