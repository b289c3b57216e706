// Command delete is DeleteFunction: it deletes an access key that is switched off. A
// person or a workflow, lifecycle or rotation, starts it. It refuses with NoSuchEntity,
// KeyActive, NotReplaced, NotAdopted, KeyInUse.
package main

import (
	"log"

	"iamkeys/pkg/awsiam"
	"iamkeys/pkg/awssecrets"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/lambdafn"
)

func main() {
	env := lambdafn.Environment()
	aws := env.AWS()
	op := iamkeys.Delete{
		IAM:            awsiam.New(aws),
		SecretsManager: awssecrets.New(aws, ""),
		Secrets:        env.Secrets(),
		Log:            env.Log(),
	}
	if err := env.Err(); err != nil {
		log.Fatal(err)
	}
	lambdafn.Start(op.Run)
}
