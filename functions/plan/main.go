// Command plan is PlanFunction: it resolves a rotation and says where to start, changing
// nothing. The rotation workflow starts it first. It refuses with NoSuchEntity, Protected,
// AmbiguousKeys, InProgress, LimitExceeded, SecretInUse, SecretUnavailable, OrphanedKey.
package main

import (
	"errors"
	"log"
	"time"

	"iamkeys/pkg/awsiam"
	"iamkeys/pkg/awssecrets"
	"iamkeys/pkg/awssfn"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/lambdafn"
)

func main() {
	env := lambdafn.Environment()
	aws := env.AWS()
	op := iamkeys.Plan{
		IAM:            awsiam.New(aws),
		SecretsManager: awssecrets.New(aws, ""),
		StepFunctions: awssfn.New(aws, map[iamkeys.Workflow]string{
			iamkeys.RotationWorkflow: env.RotationStateMachineARN(), iamkeys.RetirementWorkflow: env.RetirementStateMachineARN(),
		}),
		Secrets:     env.Secrets(),
		OwnerTag:    env.OwnerTag(),
		QuietHours:  env.QuietHours(),
		PollHours:   env.PollHours(),
		MaxWaitDays: env.MaxWaitDays(),
		SoakDays:    env.SoakDays(),
		Now:         time.Now,
	}
	if err := errors.Join(env.Err(), op.Check()); err != nil {
		log.Fatal(err)
	}
	lambdafn.Start(op.Run)
}
