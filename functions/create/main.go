// Command create is CreateFunction: it creates an access key and delivers it to Secrets
// Manager. A person or a workflow, lifecycle or rotation, starts it. It refuses with
// NoSuchEntity, LimitExceeded, SecretInUse, SecretUnavailable, InProgress, DeliveryFailed,
// OrphanedKey.
package main

import (
	"log"
	"time"

	"iamkeys/pkg/awsiam"
	"iamkeys/pkg/awssecrets"
	"iamkeys/pkg/awssts"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/lambdafn"
)

func main() {
	env := lambdafn.Environment()
	aws := env.AWS()
	op := iamkeys.Create{
		IAM:            awsiam.New(aws),
		SecretsManager: awssecrets.New(aws, env.SecretKMSKeyARN()),
		STS:            awssts.New(aws),
		Secrets:        env.Secrets(),
		Propagation:    env.Propagation(),
		Now:            time.Now,
		Sleep:          lambdafn.Sleep,
		Log:            env.Log(),
	}
	if err := env.Err(); err != nil {
		log.Fatal(err)
	}
	lambdafn.Start(op.Run)
}
