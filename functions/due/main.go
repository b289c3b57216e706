// Command due is DueFunction: it nominates users whose access key is to be rotated, and
// starts nothing. The scheduled rotation's workflow starts it. It refuses with
// InventoryUnavailable.
package main

import (
	"log"
	"time"

	"iamkeys/pkg/awsiam"
	"iamkeys/pkg/awssfn"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/lambdafn"
)

func main() {
	env := lambdafn.Environment()
	aws := env.AWS()
	op := audit.Due{
		Inventory:     audit.TakeInventory{IAM: awsiam.NewForAudit(aws), ReportWait: env.ReportWait(), Now: time.Now, Sleep: lambdafn.Sleep, Log: env.Log()},
		StepFunctions: awssfn.New(aws, map[iamkeys.Workflow]string{iamkeys.RotationWorkflow: env.RotationStateMachineARN()}),
		Secrets:       env.Secrets(),
		UserPath:      env.UserPath(),
		OwnerTag:      env.OwnerTag(),
		UnusedDays:    env.UnusedDays(),
		RotateAgeDays: env.RotateAgeDays(),
		MaxRotations:  env.MaxRotationsPerRun(),
		Now:           time.Now,
	}
	if err := env.Err(); err != nil {
		log.Fatal(err)
	}
	lambdafn.Start(op.Run)
}
