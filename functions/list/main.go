// Command list is ListFunction: it lists a user's access keys. A person or the lifecycle
// workflow starts it. It refuses with NoSuchEntity.
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
	op := iamkeys.List{
		IAM: awsiam.New(env.AWS()),
		Now: time.Now,
	}
	if err := env.Err(); err != nil {
		log.Fatal(err)
	}
	lambdafn.Start(op.Run)
}
