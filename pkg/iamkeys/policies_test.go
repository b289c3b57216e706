package iamkeys_test

import (
	"encoding/json"
	"testing"

	"iamkeys/pkg/iamkeys"
)

func TestPower(t *testing.T) {
	const own, other = "arn:aws:iam::aws:policy/", "arn:aws:iam::123456789012:policy/"
	for _, test := range []struct {
		name           string
		user, group    []string
		unread, expose bool
		want           string
	}{
		{name: "nothing attached", want: "null"},
		{name: "nothing read", unread: true, want: `"unknown"`},
		{name: "administrator", user: []string{own + "ReadOnlyAccess", own + "AdministratorAccess"}, want: `"admin"`},
		{name: "administrator by a group", group: []string{own + "AdministratorAccess"}, want: `"admin"`},
		{name: "administrator, not all read", user: []string{own + "AdministratorAccess"}, unread: true, want: `"admin"`},
		{name: "all of IAM", user: []string{own + "IAMFullAccess"}, want: `"admin"`},
		{name: "power user", group: []string{own + "PowerUserAccess"}, want: `"power"`},
		{name: "power user, not all read", user: []string{own + "PowerUserAccess"}, unread: true, want: `"unknown"`},
		{name: "both", user: []string{own + "PowerUserAccess"}, group: []string{own + "AdministratorAccess"}, want: `"admin"`},
		{name: "in China", user: []string{"arn:aws-cn:iam::aws:policy/AdministratorAccess"}, want: `"admin"`},
		{name: "a name that begins so", user: []string{own + "AdministratorAccess-Amplify"}, want: "null"},
		{name: "the customer's own", user: []string{other + "AdministratorAccess", other + "aws:policy/AdministratorAccess"}, want: "null"},
		{name: "under a path", user: []string{own + "job-function/PowerUserAccess"}, want: `"power"`},
		{name: "quarantined", user: []string{own + "AWSCompromisedKeyQuarantine"}, expose: true, want: "null"},
		{name: "quarantined, a version yet to come", user: []string{own + "AWSCompromisedKeyQuarantineV4"}, expose: true, want: "null"},
		{name: "quarantined as of old", user: []string{own + "AWSExposedCredentialPolicy_DO_NOT_REMOVE"}, expose: true, want: "null"},
		{name: "a group quarantined", group: []string{own + "AWSCompromisedKeyQuarantineV3"}, want: "null"},
		{name: "quarantined by the customer", user: []string{other + "AWSCompromisedKeyQuarantineV3", other + "AWSExposedCredentialPolicy_DO_NOT_REMOVE"}, want: "null"},
	} {
		u := iamkeys.User{AttachedPolicies: test.user, GroupPolicies: test.group, PoliciesRead: !test.unread}
		got, err := json.Marshal(u.Power())
		if err != nil || string(got) != test.want || u.Exposed() != test.expose {
			t.Errorf("%s: power %s (%v), exposed %v; want %s, %v", test.name, got, err, u.Exposed(), test.want, test.expose)
		}
		var back iamkeys.Power
		if err := json.Unmarshal(got, &back); err != nil || back != u.Power() {
			t.Errorf("%s: %q read back as %q, %v", test.name, u.Power(), back, err)
		}
	}
}
