// Command retire is RetireFunction: it tells whether an unused key is (still) to be retired,
// changing nothing. The retirement workflow asks it before each step. It refuses with
// NoSuchEntity, KeyActive, Protected, KeyExempt, RetirementOff, InProgress, KeyInUse.
package main

import (
	"log"
	"time"
	_ "time/tzdata" // Lambda's system may hold no time zones

	"iamkeys/pkg/awsiam"
	"iamkeys/pkg/awssecrets"
	"iamkeys/pkg/awssfn"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/lambdafn"
)

func main() {
	env := lambdafn.Environment()
	aws := env.AWS()
	op := iamkeys.Retire{
		IAM:            awsiam.New(aws),
		SecretsManager: awssecrets.New(aws, ""),
		StepFunctions: awssfn.New(aws, map[iamkeys.Workflow]string{
			iamkeys.RotationWorkflow: env.RotationStateMachineARN(), iamkeys.RetirementWorkflow: env.RetirementStateMachineARN(),
		}),
		Rule:       iamkeys.RetirementRule{UserPath: env.UserPath(), AfterDays: env.RetireAfterDays(), Secrets: env.Secrets()},
		OwnerTag:   env.OwnerTag(),
		Apply:      env.RetirementMode() == "apply",
		NoticeDays: env.NoticeDays(),
		SoakDays:   env.RetireSoakDays(),
		ActDays:    env.ActDays(),
		Zone:       env.Zone(),
		Now:        time.Now,
	}
	if err := env.Err(); err != nil {
		log.Fatal(err)
	}
	lambdafn.Start(op.Run)
}
