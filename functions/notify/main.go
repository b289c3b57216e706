// Command notify is NotifyFunction: it tells people where a rotation stands. The
// rotation workflows start it.
package main

import (
	"log"
	"time"
	_ "time/tzdata" // Lambda's system may hold no time zones

	"iamkeys/pkg/awssns"
	"iamkeys/pkg/iamkeys/notice"
	"iamkeys/pkg/lambdafn"
)

func main() {
	env := lambdafn.Environment()
	aws := env.AWS()
	op := notice.Notify{
		SNS:  awssns.New(aws, env.NotificationTopicARN()),
		Zone: env.Zone(),
		Now:  time.Now,
		Log:  env.Log(),
	}
	if err := env.Err(); err != nil {
		log.Fatal(err)
	}
	lambdafn.Start(op.Run)
}
