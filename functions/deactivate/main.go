// Command deactivate is DeactivateFunction: it switches an access key off, unless it is in
// use. A person or a workflow, lifecycle or rotation, starts it. It refuses with
// NoSuchEntity, NotReplaced, KeyInUse, NotAdopted.
package main

import (
	"log"
	"time"

	"iamkeys/pkg/awsiam"
	"iamkeys/pkg/awssecrets"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/lambdafn"
)

func main() {
	env := lambdafn.Environment()
	aws := env.AWS()
	op := iamkeys.Deactivate{
		IAM:            awsiam.New(aws),
		SecretsManager: awssecrets.New(aws, ""),
		Secrets:        env.Secrets(),
		QuietHours:     env.QuietHours(),
		Now:            time.Now,
		Log:            env.Log(),
	}
	if err := env.Err(); err != nil {
		log.Fatal(err)
	}
	lambdafn.Start(op.Run)
}
