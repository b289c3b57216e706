package iamkeystest

import (
	"context"
	"slices"
	"strings"
	"time"

	"iamkeys/pkg/iamkeys"
)

// An Organization is accounts that people manage together. The hub is the account
// that the functions run in, and one of them: it has the report bucket and the topic.
type Organization struct {
	Hub *Account

	// Unlisted makes ListAccounts AccessDenied: nobody has granted it to the hub.
	Unlisted bool

	members []*Member
}

// A Member is an account of an organization.
type Member struct {
	*Account
	Name  string
	State string // as Organizations names it; "" as where it says nothing

	// Role is the name of the role in it that trusts the hub, "" for none; ExternalID
	// is what the role wants to hear, "" for nothing.
	Role, ExternalID string

	// Denied is an explicit deny, by a policy of the organization, of every call in it.
	Denied bool
}

// NewOrganization gives an organization of nothing but its hub.
func NewOrganization() *Organization {
	o := &Organization{Hub: NewAccount()}
	o.members = append(o.members, &Member{Account: o.Hub, Name: "hub", State: "ACTIVE"})
	return o
}

// Add makes an account, with that role in it.
func (o *Organization) Add(id, name, role string) *Member {
	m := &Member{Account: NewAccount(), Name: name, State: "ACTIVE", Role: role}
	m.ID, m.now = id, o.Hub.Now()
	o.members = append(o.members, m)
	return m
}

// Member gives the account of that ID, nil when it is not one of the organization's.
func (o *Organization) Member(id string) *Member {
	if i := slices.IndexFunc(o.members, func(m *Member) bool { return m.ID == id }); i >= 0 {
		return o.members[i]
	}
	return nil
}

// Members gives all accounts, the hub first.
func (o *Organization) Members() []*Member { return slices.Clone(o.members) }

// Leave takes the account out of the organization.
func (o *Organization) Leave(id string) {
	o.members = slices.DeleteFunc(o.members, func(m *Member) bool { return m.ID == id })
}

// Join brings the account in, such as one that left.
func (o *Organization) Join(m *Member) { o.members = append(o.members, m) }

// Advance moves the clocks of all accounts on.
func (o *Organization) Advance(d time.Duration) {
	for _, m := range o.members {
		m.Account.Advance(d)
	}
}

// Sleep moves the clocks on instead of waiting; it fails when ctx is done.
func (o *Organization) Sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o.Advance(d)
	return nil
}

// A HubProcess is a function of the hub, which may call other accounts.
type HubProcess struct {
	*Process
	Organization *Organization
}

// Start gives a process in the hub.
func (o *Organization) Start() *HubProcess { return &HubProcess{o.Hub.Start(), o} }

// ListAccounts implements the port; each page of 20 is a call.
func (p *HubProcess) ListAccounts(ctx context.Context) (accounts []iamkeys.Account, err error) {
	const page = 20
	for from := 0; from == 0 || from < len(p.Organization.members); from += page {
		err := p.call(ctx, "organizations:ListAccounts", func() error {
			if p.Organization.Unlisted {
				return &iamkeys.Error{Code: iamkeys.AccessDenied, Message: "You don't have permissions to access this resource."}
			}
			members := p.Organization.members[from:]
			for _, m := range members[:min(page, len(members))] {
				accounts = append(accounts, iamkeys.Account{ID: m.ID, Name: m.Name, State: m.State})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return accounts, nil
}

// AssumeRole implements the port. Like STS it does not tell a role that is not there
// from one that does not trust the caller.
func (p *HubProcess) AssumeRole(ctx context.Context, roleARN, sessionName, externalID string) (session iamkeys.Session, err error) {
	err = p.call(ctx, "sts:AssumeRole", func() error {
		parts := strings.SplitN(roleARN, ":", 6) // arn:aws:iam::<account>:role/<name>
		m := p.Organization.Member(parts[4])
		if sessionName == "" || m == nil || m.State == "CLOSED" || m.State == "SUSPENDED" || m.Role == "" || parts[5] != "role/"+m.Role || m.ExternalID != "" && m.ExternalID != externalID {
			return &iamkeys.Error{Code: iamkeys.AccessDenied, Message: "sts:AssumeRole on role " + roleARN + " is not permitted."}
		}
		session = iamkeys.Session{AccessKeyID: "ASIA" + m.ID, Secret: iamkeys.NewSecret("wJalr/SECRET/of/ASIA" + m.ID), Token: iamkeys.NewSecret("token"), Expires: p.now.Add(time.Hour)}
		return nil
	})
	return session, err
}

// As gives the process where it calls the account of the session.
func (p *HubProcess) As(s iamkeys.Session) *Process {
	m := p.Organization.Member(strings.TrimPrefix(s.AccessKeyID, "ASIA"))
	there := p.At(m.Account)
	if m.Denied {
		there.refuse = &iamkeys.Error{Code: iamkeys.AccessDenied, Message: "The call is denied by a service control policy of the organization."}
	}
	return there
}

// ListAccounts implements the port for an account that is in no organization.
func (p *Process) ListAccounts(ctx context.Context) ([]iamkeys.Account, error) {
	return nil, p.call(ctx, "organizations:ListAccounts", func() error { return noSuch("The organization") })
}

// AssumeRole implements the port where there is no other account.
func (p *Process) AssumeRole(ctx context.Context, roleARN, _, _ string) (iamkeys.Session, error) {
	return iamkeys.Session{}, p.call(ctx, "sts:AssumeRole", func() error {
		return &iamkeys.Error{Code: iamkeys.AccessDenied, Message: "sts:AssumeRole on role " + roleARN + " is not permitted."}
	})
}

// A SecurityHub is an account's Security Hub, in one Region.
type SecurityHub struct {
	Off    bool
	Refuse func(iamkeys.SecurityFinding) bool // one by one; nil for none
	Before func()                             // before each call; nil for nothing

	Findings map[string]iamkeys.SecurityFinding // by Id
	Imports  int                                // findings that were taken, each time
}

// BatchImportFindings implements the port. An update that is not later is not applied.
func (p *Process) BatchImportFindings(ctx context.Context, findings []iamkeys.SecurityFinding) (refused []iamkeys.RefusedFinding, err error) {
	hub := &p.SecurityHub
	if hub.Before != nil {
		hub.Before()
	}
	err = p.call(ctx, "securityhub:BatchImportFindings", func() error {
		if hub.Off {
			return noSuch("Security Hub")
		}
		if len(findings) < 1 || len(findings) > 100 {
			return &iamkeys.Error{Code: iamkeys.Internal, Message: "Security Hub takes 1 to 100 findings."}
		}
		for _, f := range findings {
			if hub.Refuse != nil && hub.Refuse(f) {
				refused = append(refused, iamkeys.RefusedFinding{ID: f.ID, Code: "InvalidInput", Message: "refused"})
				continue
			}
			if hub.Findings == nil {
				hub.Findings = map[string]iamkeys.SecurityFinding{}
			}
			if old, ok := hub.Findings[f.ID]; !ok || old.UpdatedAt < f.UpdatedAt {
				hub.Findings[f.ID] = f
			}
			hub.Imports++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return refused, nil
}
