package iamkeystest_test

import (
	"testing"

	"iamkeys/pkg/iamkeys/iamkeystest"
)

func TestAccountKeepsTheContracts(t *testing.T) {
	a := iamkeystest.NewAccount()
	t.Run("IAM", func(t *testing.T) { iamkeystest.TestIAM(t, a.Harness(), a.Start()) })
	t.Run("SecretsManager", func(t *testing.T) { iamkeystest.TestSecretsManager(t, a.Harness(), a.Start()) })
	t.Run("InventoryIAM", func(t *testing.T) { iamkeystest.TestInventoryIAM(t, a.Harness(), a.Start()) })
	t.Run("S3", func(t *testing.T) { iamkeystest.TestS3(t, a.Start()) })
	t.Run("S3Conditions", func(t *testing.T) { iamkeystest.TestS3Conditions(t, a.Start()) })
	t.Run("SNS", func(t *testing.T) { iamkeystest.TestSNS(t, a.Start()) })
	t.Run("SES", func(t *testing.T) { iamkeystest.TestSES(t, a.Start()) })
	t.Run("StepFunctions", func(t *testing.T) { iamkeystest.TestStepFunctions(t, a.ExecutionSetter(), a.Start()) })
	t.Run("STS", func(t *testing.T) { iamkeystest.TestSTS(t, a.Harness(), a.Start()) })
}
