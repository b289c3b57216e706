// Command lastused is LastUsedFunction: it tells when a user's access keys, or one access
// key, were last used. A person or the lifecycle workflow starts it. It refuses with
// NoSuchEntity.
package main

import (
	"log"
	"time"

	"iamkeys/pkg/awsiam"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/lambdafn"
)

func main() {
	env := lambdafn.Environment()
	op := iamkeys.FindLastUsed{
		IAM: awsiam.New(env.AWS()),
		Now: time.Now,
	}
	if err := env.Err(); err != nil {
		log.Fatal(err)
	}
	lambdafn.Start(op.Run)
}
