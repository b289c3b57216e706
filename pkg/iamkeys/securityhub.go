package iamkeys

// A SecurityFinding is a finding as AWS Security Hub takes it, in its AWS Security Finding
// Format (ASFF) of 2018-10-08: its JSON is the format's.
// https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-findings-format.html
type SecurityFinding struct {
	SchemaVersion         string
	ID                    string `json:"Id"`
	ProductARN            string `json:"ProductArn"`
	GeneratorID           string `json:"GeneratorId"`
	AwsAccountID          string `json:"AwsAccountId"`
	CreatedAt             string
	UpdatedAt             string
	FirstObservedAt       string `json:",omitempty"`
	Title                 string
	Description           string
	Remediation           SecurityRemediation
	FindingProviderFields SecurityProviderFields
	Resources             []SecurityResource
	Compliance            SecurityCompliance
	RecordState           string
}

// SecurityRemediation says what to do.
type SecurityRemediation struct{ Recommendation SecurityRecommendation }

// SecurityRecommendation is that in words.
type SecurityRecommendation struct{ Text string }

// SecurityProviderFields are what the finding's sender says, and nobody else changes.
type SecurityProviderFields struct {
	Severity SecuritySeverity
	Types    []string
}

// SecuritySeverity is a severity in Security Hub's word, and in ours.
type SecuritySeverity struct{ Label, Original string }

// SecurityResource is what a finding is about.
type SecurityResource struct {
	Type      string
	ID        string `json:"Id"`
	Partition string
	Region    string
	Details   *SecurityDetails `json:",omitempty"`
}

// SecurityDetails are those of an access key or a user.
type SecurityDetails struct {
	AwsIamAccessKey *SecurityAccessKey `json:",omitempty"`
	AwsIamUser      *SecurityUser      `json:",omitempty"`
}

// SecurityAccessKey is what Security Hub shows of an access key.
type SecurityAccessKey struct {
	AccessKeyID   string `json:"AccessKeyId,omitempty"`
	AccountID     string `json:"AccountId"`
	CreatedAt     string `json:",omitempty"`
	PrincipalName string
	PrincipalType string
	Status        string `json:",omitempty"` // Active or Inactive; it knows no others
}

// SecurityUser is what Security Hub shows of a user.
type SecurityUser struct{ UserName string }

// SecurityCompliance tells whether the rule is kept.
type SecurityCompliance struct {
	Status              string   // FAILED or PASSED
	RelatedRequirements []string `json:",omitempty"`
}

// A RefusedFinding is one that Security Hub did not take.
type RefusedFinding struct{ ID, Code, Message string }
