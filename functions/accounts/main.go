// Command accounts is AccountsFunction: it lists the organization's accounts for a run of
// the audit. The organization's workflow starts it. It refuses with InventoryUnavailable,
// StoreFailed.
package main

import (
	"log"

	"iamkeys/pkg/awsorganizations"
	"iamkeys/pkg/awss3"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/lambdafn"
)

func main() {
	env := lambdafn.Environment()
	aws := env.AWS()
	op := audit.Accounts{
		Organizations: awsorganizations.New(aws),
		S3:            awss3.New(aws, env.ReportBucket()),
		Account:       env.AccountID(),
		Bucket:        env.ReportBucket(),
		Exclude:       env.ExcludeAccounts(),
		AtOnce:        env.AccountsAtOnce(),
		Log:           env.Log(),
	}
	if err := env.Err(); err != nil {
		log.Fatal(err)
	}
	lambdafn.Start(op.Run)
}
