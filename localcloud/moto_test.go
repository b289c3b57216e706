package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	smtypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

// These tests hold moto, as launcher.py corrects it, to what AWS does. They
// need no more than moto; each works in names or accounts of its own.

func motoEndpoint(t *testing.T) string {
	t.Helper()
	endpoint := os.Getenv("IAMKEYS_MOTO")
	if endpoint == "" {
		t.Skip("needs moto: run go run ./localcloud test")
	}
	return endpoint
}

// motoAlone is a cloud of moto alone, for seeding.
func motoAlone(t *testing.T) *Cloud {
	t.Helper()
	u, err := url.Parse(motoEndpoint(t))
	if err != nil {
		t.Fatal(err)
	}
	return &Cloud{gateway: &gateway{moto: u}}
}

// code is the AWS error code of a refusal, and empty for a success.
func code(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	if refusal, ok := errors.AsType[smithy.APIError](err); ok {
		return refusal.ErrorCode()
	}
	if refusal, ok := errors.AsType[*wireError](err); ok {
		return refusal.Code
	}
	t.Fatalf("not an answer of AWS: %v", err)
	return ""
}

// A labelled secret with three versions, and what a test does with its labels.
type labels struct {
	client *secretsmanager.Client
	id     string
}

func labelled(t *testing.T, name string) labels {
	t.Helper()
	l := labels{secretsmanager.NewFromConfig(config(motoEndpoint(t), "test")), fmt.Sprintf("iamkeys/%s-%d", name, os.Getpid())}
	if _, err := l.client.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: &l.id}); err != nil {
		t.Fatal(err)
	}
	return l
}

// version is the full ID of a version named in short; no name, no ID.
func version(short string) *string {
	if short == "" {
		return nil
	}
	return aws.String(short + strings.Repeat("-", 32-len(short)))
}

func (l labels) put(t *testing.T, short string, stages ...string) error {
	t.Helper()
	_, err := l.client.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: &l.id, ClientRequestToken: version(short), SecretString: &short, VersionStages: stages})
	return err
}

func (l labels) move(t *testing.T, label, from, to string) error {
	t.Helper()
	_, err := l.client.UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{
		SecretId: &l.id, VersionStage: &label, RemoveFromVersionId: version(from), MoveToVersionId: version(to)})
	return err
}

// in is where the labels are: "a: AWSCURRENT lock; b: AWSPREVIOUS".
func (l labels) in(t *testing.T) string {
	t.Helper()
	out, err := l.client.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: &l.id})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, id := range slices.Sorted(maps.Keys(out.VersionIdsToStages)) {
		all = append(all, strings.TrimRight(id, "-")+": "+strings.Join(slices.Sorted(slices.Values(out.VersionIdsToStages[id])), " "))
	}
	return strings.Join(all, "; ")
}

func TestMotoMovesLabelsAsAWS(t *testing.T) {
	l := labelled(t, "labels")
	steps := []struct {
		what string
		do   func() error
		code string
		then string
	}{
		{"the first version is current, whatever its label", func() error { return l.put(t, "a", "intent") }, "", "a: AWSCURRENT intent"},
		{"a label that stands nowhere", func() error { return l.move(t, "lock", "", "a") }, "", "a: AWSCURRENT intent lock"},
		{"where it stands already", func() error { return l.move(t, "lock", "", "a") }, "", "a: AWSCURRENT intent lock"},
		{"a put takes its labels from other versions", func() error { return l.put(t, "b", "intent") }, "", "a: AWSCURRENT lock; b: intent"},
		{"a label that stands elsewhere, unnamed", func() error { return l.move(t, "lock", "", "b") }, "InvalidParameterException", "a: AWSCURRENT lock; b: intent"},
		{"a label that stands elsewhere, another named", func() error { return l.move(t, "lock", "b", "b") }, "InvalidParameterException", "a: AWSCURRENT lock; b: intent"},
		{"to a version that is not there", func() error { return l.move(t, "lock", "a", "z") }, "InvalidParameterException", "a: AWSCURRENT lock; b: intent"},
		{"for whom names where it stands", func() error { return l.move(t, "lock", "a", "b") }, "", "a: AWSCURRENT; b: intent lock"},
		{"taken off where it does not stand", func() error { return l.move(t, "lock", "a", "") }, "InvalidParameterException", "a: AWSCURRENT; b: intent lock"},
		{"AWSCURRENT taken off", func() error { return l.move(t, "AWSCURRENT", "a", "") }, "InvalidParameterException", "a: AWSCURRENT; b: intent lock"},
		{"a put leaves other labels alone", func() error { return l.put(t, "c", "AWSCURRENT", "made") }, "", "a: AWSPREVIOUS; b: intent lock; c: AWSCURRENT made"},
		{"a repeated put changes nothing", func() error { return l.put(t, "c", "AWSCURRENT", "made", "more") }, "", "a: AWSPREVIOUS; b: intent lock; c: AWSCURRENT made"},
		{"taken off", func() error { return l.move(t, "lock", "b", "") }, "", "a: AWSPREVIOUS; b: intent; c: AWSCURRENT made"},
		{"a version without labels is deprecated", func() error { return l.move(t, "intent", "b", "") }, "", "a: AWSPREVIOUS; c: AWSCURRENT made"},
		{"AWSCURRENT goes back", func() error { return l.move(t, "AWSCURRENT", "c", "a") }, "", "a: AWSCURRENT; c: AWSPREVIOUS made"},
	}
	for _, s := range steps {
		if got := code(t, s.do()); got != s.code {
			t.Errorf("%s: got %q, want %q", s.what, got, s.code)
		}
		if got := l.in(t); got != s.then {
			t.Fatalf("%s:\ngot  %s\nwant %s", s.what, got, s.then)
		}
	}
	value, err := l.client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &l.id})
	if err != nil || aws.ToString(value.SecretString) != "a" {
		t.Errorf("the current value: %v, %v", value, err)
	}
}

func TestMotoKeepsTwentyLabels(t *testing.T) {
	l := labelled(t, "full")
	for i := range 19 { // and AWSCURRENT
		if err := l.put(t, fmt.Sprint("v", i), fmt.Sprint("label-", i)); err != nil {
			t.Fatal(err)
		}
	}
	if got := code(t, l.put(t, "one-more", "label-19")); got != "LimitExceededException" {
		t.Errorf("a put with the 21st label: %q", got)
	}
	if got := code(t, l.move(t, "label-19", "", "v3")); got != "LimitExceededException" {
		t.Errorf("a 21st label: %q", got)
	}
	if err := l.put(t, "a-known-label", "label-7"); err != nil {
		t.Errorf("a label that is there already: %v", err)
	}
}

func TestMotoTellsPrimaryRegion(t *testing.T) {
	l := labelled(t, "replicated")
	if err := l.put(t, "a", "AWSCURRENT"); err != nil {
		t.Fatal(err)
	}
	_, err := l.client.ReplicateSecretToRegions(t.Context(), &secretsmanager.ReplicateSecretToRegionsInput{
		SecretId: &l.id, AddReplicaRegions: []smtypes.ReplicaRegionType{{Region: aws.String("eu-west-1")}}})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := config(motoEndpoint(t), "test")
	elsewhere.Region = "eu-west-1"
	replica := labels{secretsmanager.NewFromConfig(elsewhere), l.id}
	for _, there := range []labels{l, replica} { // AWS says it of the primary, too
		out, err := there.client.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: &l.id})
		if err != nil || aws.ToString(out.PrimaryRegion) != region {
			t.Errorf("PrimaryRegion is %v (%v), want %s", out, err, region)
		}
	}
	if got := code(t, replica.put(t, "b", "AWSCURRENT")); got != "InvalidParameterException" {
		t.Errorf("a put in the replica: %q", got)
	}
	if got := code(t, replica.move(t, "lock", "", "a")); got != "InvalidParameterException" {
		t.Errorf("a label in the replica: %q", got)
	}
}

// An organization of the tests' own, beside whatever other packages do in moto.
const (
	testManagement = "999900000001"
	testHub        = "999900000002"
	testMember     = "999900000003"
	testClosed     = "999900000004"
	testStranger   = "999900000099" // of no organization
	testHubRole    = "arn:aws:iam::" + testHub + ":role/iamkeys-AuditFunctionRole-ABC"
)

func testOrganization() Organization {
	state := func(s string) *string { return &s }
	o := Organization{ManagementAccount: testManagement, Accounts: []Member{
		{ID: testManagement, Name: "management", State: state("ACTIVE")}, {ID: testHub, Name: "security", State: state("ACTIVE")},
		{ID: testMember, Name: "payments", State: state("ACTIVE")}, {ID: testClosed, Name: "old", State: state("CLOSED")},
		{ID: "999900000005", Name: "silent"}, // says no state
	}}
	for i := range 20 {
		o.Accounts = append(o.Accounts, Member{ID: fmt.Sprintf("9999000001%02d", i), State: state("ACTIVE")})
	}
	return o
}

func TestMotoListsAccountsAsAWS(t *testing.T) {
	c, ctx := motoAlone(t), t.Context()
	o := testOrganization()
	list := func(account string, in map[string]any) (accounts []map[string]any, next string, code_ string) {
		t.Helper()
		var out struct {
			Accounts  []map[string]any
			NextToken string
		}
		err := wire{c.moto.String(), account}.target(ctx, "organizations", "AWSOrganizationsV20161128.ListAccounts", in, &out)
		return out.Accounts, out.NextToken, code(t, err)
	}
	organize := func() {
		t.Helper()
		if _, err := c.Organize(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	organize()
	first, next, refused := list(testManagement, map[string]any{})
	if len(first) != 20 || next == "" || refused != "" {
		t.Fatalf("the first page: %d accounts, %q, %q", len(first), next, refused)
	}
	empty, next, _ := list(testManagement, map[string]any{"NextToken": next})
	if len(empty) != 0 || next == "" {
		t.Errorf("the second page should be empty and go on, and has %v, %q", empty, next)
	}
	last, next, _ := list(testManagement, map[string]any{"NextToken": next})
	if len(last) != 5 || next != "" {
		t.Errorf("the last page: %d accounts, %q", len(last), next)
	}
	for i, want := range []any{"ACTIVE", "ACTIVE", "ACTIVE", "CLOSED", nil} {
		if first[i]["State"] != want || first[i]["Status"] != nil || first[i]["Id"] != o.Accounts[i].ID || first[i]["Name"] != o.Accounts[i].Name {
			t.Errorf("account %d: %v, want %+v in state %v", i, first[i], o.Accounts[i], want)
		}
	}
	if _, _, refused := list(testManagement, map[string]any{"MaxResults": 21}); refused != "InvalidInputException" {
		t.Errorf("21 accounts a page: %q", refused)
	}
	if _, _, refused := list(testHub, map[string]any{}); refused != "AccessDeniedException" {
		t.Errorf("a member: %q", refused)
	}
	if _, _, refused := list(testStranger, map[string]any{}); refused != "AWSOrganizationsNotInUseException" {
		t.Errorf("an account of no organization: %q", refused)
	}
	o.Administrators = []string{testHub}
	organize()
	if got, _, refused := list(testHub, map[string]any{}); len(got) != 20 || refused != "" {
		t.Errorf("a delegated administrator: %d accounts, %q", len(got), refused)
	}
	o.Administrators = nil
	organize()
	policy := fmt.Sprintf(`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": %q}, "Action": "organizations:ListAccounts", "Resource": "*"}]}`,
		"arn:aws:iam::"+testHub+":root")
	err := wire{c.moto.String(), testManagement}.target(ctx, "organizations", "AWSOrganizationsV20161128.PutResourcePolicy", map[string]any{"Content": policy}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, refused := list(testHub, map[string]any{}); len(got) != 20 || refused != "" {
		t.Errorf("an account that the resource policy names: %d accounts, %q", len(got), refused)
	}
	if _, _, refused := list(testMember, map[string]any{}); refused != "AccessDeniedException" {
		t.Errorf("an account that it does not name: %q", refused)
	}
}

// as is a configuration that signs as a function with this role does.
func as(t *testing.T, roleARN string) aws.Config {
	c := config(motoEndpoint(t), "test")
	c.Credentials = credentials.NewStaticCredentialsProvider(strings.Split(roleARN, ":")[4], "test", roleARN)
	return c
}

func TestMotoAssumesRolesAsAWS(t *testing.T) {
	c, ctx := motoAlone(t), t.Context()
	id, err := c.Organize(ctx, testOrganization())
	if err != nil {
		t.Fatal(err)
	}
	trust := func(conditions string) map[string]any {
		var policy map[string]any
		text := fmt.Sprintf(`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::%s:root"}, "Action": "sts:AssumeRole", "Condition": %s}]}`, testHub, conditions)
		if err := json.Unmarshal([]byte(text), &policy); err != nil {
			t.Fatal(err)
		}
		return policy
	}
	audit := fmt.Sprintf(`"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::%s:role/iamkeys-AuditFunctionRole-*"}`, testHub)
	organization := fmt.Sprintf(`"StringEquals": {"aws:PrincipalOrgID": %q}`, id)
	for _, account := range []string{testMember, testClosed} {
		_, err := c.SeedAccount(ctx, Account{ID: account, Users: []User{{UserName: "deploy", AccessKeys: []AccessKey{{AccessKeyID: "AKIATEST" + account}}}}, Roles: []Role{
			{RoleName: "iamkeys", Path: "/audit/", Trust: trust(`{` + audit + `, "StringEquals": {"aws:PrincipalOrgID": "` + id + `", "sts:ExternalId": "right"}}`)},
			{RoleName: "open", Trust: trust(`{` + organization + `}`)},
			{RoleName: "elsewhere", Trust: trust(`{"StringEquals": {"aws:PrincipalOrgID": "o-another000"}}`)},
			{RoleName: "unheard", Trust: trust(`{"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}`)},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	assume := func(caller, account, role, externalID string, seconds int32) (*sts.AssumeRoleOutput, error) {
		in := &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::" + account + ":role/" + role), RoleSessionName: aws.String("iamkeys"), DurationSeconds: &seconds}
		if externalID != "" {
			in.ExternalId = &externalID
		}
		return sts.NewFromConfig(as(t, caller)).AssumeRole(ctx, in)
	}
	for _, test := range []struct {
		what, caller, account, role, externalID string
		seconds                                 int32
		code                                    string
	}{
		{"all that the trust asks for", testHubRole, testMember, "audit/iamkeys", "right", 3600, ""},
		{"the organization alone", testHubRole, testMember, "open", "", 900, ""},
		{"no external ID", testHubRole, testMember, "audit/iamkeys", "", 3600, "AccessDenied"},
		{"a foreign external ID", testHubRole, testMember, "audit/iamkeys", "wrong", 3600, "AccessDenied"},
		{"another function's role", "arn:aws:iam::" + testHub + ":role/iamkeys-ListFunctionRole-ABC", testMember, "audit/iamkeys", "right", 3600, "AccessDenied"},
		{"another account", "arn:aws:iam::999900000005:role/iamkeys-AuditFunctionRole-ABC", testMember, "open", "", 3600, "AccessDenied"},
		{"an account of no organization", "arn:aws:iam::" + testStranger + ":role/x", testMember, "open", "", 3600, "AccessDenied"},
		{"another organization", testHubRole, testMember, "elsewhere", "", 3600, "AccessDenied"},
		{"a condition that the local cloud does not know", testHubRole, testMember, "unheard", "", 3600, "AccessDenied"},
		{"no such role", testHubRole, testMember, "missing", "", 3600, "AccessDenied"},
		{"the role's path left out", testHubRole, testMember, "iamkeys", "right", 3600, "AccessDenied"},
		{"a closed account", testHubRole, testClosed, "open", "", 3600, "AccessDenied"},
		{"no such account", testHubRole, "999900000077", "open", "", 3600, "AccessDenied"},
		{"longer than role chaining allows", testHubRole, testMember, "open", "", 3601, "ValidationError"},
	} {
		out, err := assume(test.caller, test.account, test.role, test.externalID, test.seconds)
		if got := code(t, err); got != test.code {
			t.Errorf("%s: got %q (%v), want %q", test.what, got, err, test.code)
			continue
		}
		if err == nil && *out.AssumedRoleUser.Arn != "arn:aws:sts::"+test.account+":assumed-role/"+test.role[strings.LastIndex(test.role, "/")+1:]+"/iamkeys" {
			t.Errorf("%s: assumed %s", test.what, *out.AssumedRoleUser.Arn)
		}
	}

	// The role's credentials see the member's users, and what a service control
	// policy of the organization forbids there.
	out, err := assume(testHubRole, testMember, "open", "", 3600)
	if err != nil {
		t.Fatal(err)
	}
	inside := config(motoEndpoint(t), "test")
	inside.Credentials = credentials.NewStaticCredentialsProvider(*out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken)
	users, err := iam.NewFromConfig(inside).ListUsers(ctx, &iam.ListUsersInput{})
	if err != nil || len(users.Users) != 1 || *users.Users[0].Arn != "arn:aws:iam::"+testMember+":user/deploy" {
		t.Errorf("the member's users: %+v, %v", users, err)
	}
	management := wire{c.moto.String(), testManagement}
	forbid := func(kind, action string) {
		t.Helper()
		var made struct {
			Policy struct{ PolicySummary struct{ ID string } }
		}
		content := fmt.Sprintf(`{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": %q, "Resource": "*"}]}`, action)
		err := management.target(ctx, "organizations", "AWSOrganizationsV20161128.CreatePolicy", map[string]any{"Name": action, "Description": "", "Type": kind, "Content": content}, &made)
		if err == nil {
			err = management.target(ctx, "organizations", "AWSOrganizationsV20161128.AttachPolicy", map[string]any{"PolicyId": made.Policy.PolicySummary.ID, "TargetId": testMember}, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	forbid("SERVICE_CONTROL_POLICY", "iam:GenerateCredential*")
	_, err = iam.NewFromConfig(inside).GenerateCredentialReport(ctx, &iam.GenerateCredentialReportInput{})
	if code(t, err) != "AccessDenied" || !strings.Contains(err.Error(), "with an explicit deny in a service control policy") {
		t.Errorf("what an SCP forbids: %v", err)
	}
	if _, err := iam.NewFromConfig(inside).ListUsers(ctx, &iam.ListUsersInput{}); err != nil {
		t.Errorf("what it does not forbid: %v", err)
	}
	forbid("RESOURCE_CONTROL_POLICY", "sts:AssumeRole")
	_, err = assume(testHubRole, testMember, "open", "", 3600)
	if code(t, err) != "AccessDenied" || !strings.Contains(err.Error(), "with an explicit deny in a resource control policy") {
		t.Errorf("an RCP against AssumeRole: %v", err)
	}
}

// TestMotoKeepsAccountsApart: keys of a member's users are known by their
// account, and time passes in all.
func TestMotoKeepsAccountsApart(t *testing.T) {
	c, ctx := motoAlone(t), t.Context()
	made, err := c.SeedAccount(ctx, Account{ID: testStranger, RootAccessKey: &AccessKey{CreateDate: ago(900 * day)},
		Groups: []Group{{GroupName: "admins", AttachedPolicies: []string{"AdministratorAccess"}}, {GroupName: "empty"}},
		Users: []User{
			{UserName: "apart", Groups: []string{"admins"}, Tags: map[string]string{"owner": "x"}, AttachedPolicies: []string{"PowerUserAccess"}, AccessKeys: []AccessKey{{}}},
			{UserName: "another"},
		}})
	if err != nil {
		t.Fatal(err)
	}
	user := config(motoEndpoint(t), "test")
	key := made["apart"][0]
	user.Credentials = credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, "")
	who, err := sts.NewFromConfig(user).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil || *who.Arn != "arn:aws:iam::"+testStranger+":user/apart" {
		t.Errorf("the user of another account: %+v, %v", who, err)
	}

	there := iam.NewFromConfig(user)
	out, err := there.GetAccountAuthorizationDetails(ctx, &iam.GetAccountAuthorizationDetailsInput{Filter: []iamtypes.EntityType{iamtypes.EntityTypeUser, iamtypes.EntityTypeGroup}})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.UserDetailList) != 2 || len(out.GroupDetailList) != 2 || len(out.RoleDetailList) != 0 {
		t.Fatalf("%d users, %d groups, %d roles", len(out.UserDetailList), len(out.GroupDetailList), len(out.RoleDetailList))
	}
	u, g := out.UserDetailList[0], out.GroupDetailList[0]
	if !slices.Equal(u.GroupList, []string{"admins"}) || len(u.AttachedManagedPolicies) != 1 || *u.AttachedManagedPolicies[0].PolicyArn != "arn:aws:iam::aws:policy/PowerUserAccess" || len(u.Tags) != 1 {
		t.Errorf("the user: %+v", u)
	}
	if *g.GroupName != "admins" || len(g.AttachedManagedPolicies) != 1 || *g.AttachedManagedPolicies[0].PolicyArn != "arn:aws:iam::aws:policy/AdministratorAccess" {
		t.Errorf("the group: %+v", g)
	}
	if _, err := there.GenerateCredentialReport(ctx, &iam.GenerateCredentialReportInput{}); err != nil {
		t.Fatal(err)
	}
	report, err := there.GetCredentialReport(ctx, &iam.GetCredentialReportInput{})
	if err != nil {
		t.Fatal(err)
	}
	row := strings.Split(strings.Split(string(report.Content), "\n")[1], ",")
	if want := ago(900 * day).UTC().Format("2006-01-02T15:04:05+00:00"); row[1] != "arn:aws:iam::"+testStranger+":root" || row[8] != "true" || row[9][:10] != want[:10] {
		t.Errorf("the root row: %v, want a key of %s", row, want)
	}
	summary, err := there.GetAccountSummary(ctx, &iam.GetAccountSummaryInput{})
	if err != nil || summary.SummaryMap["AccountAccessKeysPresent"] != 1 {
		t.Errorf("the summary: %+v, %v", summary, err)
	}
}
