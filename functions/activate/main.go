// Command activate is ActivateFunction: it switches an access key on again. Only a person
// starts it. It refuses with NoSuchEntity.
package main

import (
	"log"

	"iamkeys/pkg/awsiam"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/lambdafn"
)

func main() {
	env := lambdafn.Environment()
	op := iamkeys.Activate{
		IAM: awsiam.New(env.AWS()),
		Log: env.Log(),
	}
	if err := env.Err(); err != nil {
		log.Fatal(err)
	}
	lambdafn.Start(op.Run)
}
