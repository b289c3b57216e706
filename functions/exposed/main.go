// Command exposed is ExposedFunction: it says what is known of the access keys that AWS
// found in public, and which of them is to be switched off. It changes no key. The
// exposure workflow starts it first, with AWS Health's event.
package main

import (
	"log"
	"time"

	"iamkeys/pkg/awsiam"
	"iamkeys/pkg/awss3"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/lambdafn"
)

func main() {
	env := lambdafn.Environment()
	aws := env.AWS()
	op := iamkeys.Exposed{
		IAM:      awsiam.New(aws),
		S3:       awss3.New(aws, env.ReportBucket()),
		Account:  env.AccountID(),
		Mode:     iamkeys.ExposureMode(env.ExposureMode()),
		UserPath: env.UserPath(),
		OwnerTag: env.OwnerTag(),
		Now:      time.Now,
		Log:      env.Log(),
	}
	if err := env.Err(); err != nil {
		log.Fatal(err)
	}
	lambdafn.Start(op.Run)
}
