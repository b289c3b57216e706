// Command due is DueFunction: it nominates users whose access key is to be rotated, and
// starts nothing. The scheduled rotation's workflow starts it. It refuses with
// InventoryUnavailable.
package main

import (
	"log"
	"time"

	"iamkeys/pkg/awsiam"
	"iamkeys/pkg/awssecrets"
	"iamkeys/pkg/awssfn"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/lambdafn"
)

func main() {
	env := lambdafn.Environment()
	aws := env.AWS()
	op := audit.Due{
		Nominator: audit.Nominator{
			Inventory: audit.TakeInventory{IAM: awsiam.NewForAudit(aws), ReportWait: env.ReportWait(), Now: time.Now, Sleep: lambdafn.Sleep, Log: env.Log()},
			StepFunctions: awssfn.New(aws, map[iamkeys.Workflow]string{
				iamkeys.RotationWorkflow: env.RotationStateMachineARN(), iamkeys.RetirementWorkflow: env.RetirementStateMachineARN(),
			}),
			SecretsManager: awssecrets.New(aws, ""),
			Secrets:        env.Secrets(),
			OwnerTag:       env.OwnerTag(),
			Most:           env.MaxRotationsPerRun(),
			Now:            time.Now,
		},
		UserPath:        env.UserPath(),
		UnusedDays:      env.UnusedDays(),
		RotateAgeDays:   env.RotateAgeDays(),
		RetireAfterDays: env.RetireAfterDays(),
	}
	if err := env.Err(); err != nil {
		log.Fatal(err)
	}
	lambdafn.Start(op.Run)
}
