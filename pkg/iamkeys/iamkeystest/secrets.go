package iamkeystest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"iamkeys/pkg/iamkeys"
)

// A secret of Secrets Manager.
type secret struct {
	description timeline[iamkeys.SecretDescription]
	values      map[string]string // version ID → ID of the access key it holds, "" for any other value
}

const secretRegion = "eu-west-1"

// now gives the secret as it is at that time, with labels that the caller may change.
func (s *secret) now(when time.Time) iamkeys.SecretDescription {
	d, _ := s.description.at(when)
	versions := map[string][]string{}
	for id, labels := range d.Versions {
		versions[id] = slices.Clone(labels)
	}
	d.Versions = versions
	return d
}

// set sets what the secret is by now. Versions without a label are not shown any more.
func (s *secret) set(when time.Time, d iamkeys.SecretDescription) {
	maps.DeleteFunc(d.Versions, func(_ string, labels []string) bool { return len(labels) == 0 })
	s.description.set(when, d)
}

// arn gives the secret's ARN and name, which never change.
func (s *secret) arn() (arn, name string) {
	d := s.description.states[0].value
	return d.ARN, d.Name
}

// ownLabels is what a process did to a secret: its DescribeSecret shows it at once,
// whether or not it shows what others did before.
type ownLabels struct {
	at    time.Time
	to    *secret
	apply func(iamkeys.SecretDescription)
}

// label changes the secret's labels for the process.
func (p *Process) label(s *secret, apply func(iamkeys.SecretDescription)) {
	d := s.now(p.now)
	apply(d)
	s.set(p.now, d)
	p.labelled = append(p.labelled, ownLabels{p.now, s, apply})
}

// PutSecret makes the secret if need be and puts a current version, as somebody
// other than iamkeys would.
func (a *Account) PutSecret(name, versionID string) { a.putSecret(name, versionID, "") }

// Deliver makes the user's secret hold the key, as a create would have.
func (a *Account) Deliver(name, userName, accessKeyID string) {
	a.putSecret(name, iamkeys.VersionID(userName, accessKeyID), accessKeyID)
}

func (a *Account) putSecret(name, versionID, accessKeyID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.secrets[name]
	if s == nil {
		s = a.createSecret(name)
	}
	s.values[versionID] = accessKeyID
	d := s.now(a.now)
	putLabels(d, versionID, []string{"AWSCURRENT"})
	s.set(a.now, d)
}

// change changes the secret of that name, if there is one, as a person would.
func (a *Account) change(name string, how func(*iamkeys.SecretDescription)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.secrets[name]; s != nil {
		d := s.now(a.now)
		how(&d)
		s.set(a.now, d)
	}
}

// ScheduleDeletion marks the secret for deletion, as a person would.
func (a *Account) ScheduleDeletion(name string) {
	a.change(name, func(d *iamkeys.SecretDescription) { d.Deleted = true })
}

// RestoreSecret takes the mark off again.
func (a *Account) RestoreSecret(name string) {
	a.change(name, func(d *iamkeys.SecretDescription) { d.Deleted = false })
}

// MakeReplica makes the secret a replica of one in that Region.
func (a *Account) MakeReplica(name, primaryRegion string) {
	a.change(name, func(d *iamkeys.SecretDescription) { d.PrimaryRegion = primaryRegion })
}

// TakeLabelOff takes the label off whatever version it is on, as a person would.
func (a *Account) TakeLabelOff(name, label string) {
	a.change(name, func(d *iamkeys.SecretDescription) {
		for id, labels := range d.Versions {
			d.Versions[id] = slices.DeleteFunc(labels, func(l string) bool { return l == label })
		}
	})
}

// PutLabel puts the label on the version, off any other, as a person would.
func (a *Account) PutLabel(name, label, versionID string) {
	a.TakeLabelOff(name, label)
	a.change(name, func(d *iamkeys.SecretDescription) { d.Versions[versionID] = append(d.Versions[versionID], label) })
}

// Versions gives the secret's versions with their labels, whatever lags.
func (a *Account) Versions(name string) map[string][]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.secrets[name]; s != nil {
		return s.now(a.now).Versions
	}
	return nil
}

// Held gives the ID of the access key that the secret's current version holds,
// "" when it holds none: what a consumer reads.
func (a *Account) Held(name string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.secrets[name]
	if s == nil {
		return ""
	}
	return s.values[holder(s.now(a.now), "AWSCURRENT")]
}

// Labels gives the labels of the secret that are not Secrets Manager's own.
func (a *Account) Labels(name string) []string {
	var labels []string
	for _, stages := range a.Versions(name) {
		labels = append(labels, slices.DeleteFunc(stages, func(l string) bool { return strings.HasPrefix(l, "AWS") })...)
	}
	return labels
}

func (a *Account) createSecret(name string) *secret {
	s := &secret{values: map[string]string{}}
	s.set(a.now, iamkeys.SecretDescription{ARN: "arn:aws:secretsmanager:" + secretRegion + ":" + a.ID + ":secret:" + name + "-AbCdEf", Name: name, Versions: map[string][]string{}})
	a.secrets[name] = s
	return s
}

// holder gives the version that has the label.
func holder(d iamkeys.SecretDescription, label string) (versionID string) {
	for id, labels := range d.Versions {
		if slices.Contains(labels, label) {
			return id
		}
	}
	return ""
}

// move puts the label on a version and takes it off the one that has it. The version
// that AWSCURRENT leaves becomes AWSPREVIOUS.
func move(d iamkeys.SecretDescription, label, to string) {
	from := holder(d, label)
	if from == to {
		return
	}
	d.Versions[from] = slices.DeleteFunc(d.Versions[from], func(l string) bool { return l == label })
	if to != "" {
		d.Versions[to] = append(d.Versions[to], label)
	}
	if label == "AWSCURRENT" && from != "" {
		move(d, "AWSPREVIOUS", from)
	}
}

// putLabels does what PutSecretValue does with labels: a secret's first version
// becomes current whatever the labels asked for.
func putLabels(d iamkeys.SecretDescription, id string, stages []string) {
	if len(stages) == 0 || holder(d, "AWSCURRENT") == "" && !slices.Contains(stages, "AWSCURRENT") {
		stages = append(slices.Clone(stages), "AWSCURRENT")
	}
	for _, label := range stages {
		move(d, label, id)
	}
}

// maxLabels is how many labels a secret has at most.
const maxLabels = 20

var errFull = errors.New("exceeds the quota of labels")

// full refuses a label that is one too many.
func full(d iamkeys.SecretDescription, more []string) error {
	all := map[string]bool{}
	for _, labels := range d.Versions {
		for _, l := range labels {
			all[l] = true
		}
	}
	for _, l := range more {
		all[l] = true
	}
	if len(all) > maxLabels {
		return &iamkeys.Error{Code: iamkeys.SecretUnavailable, Message: fmt.Sprintf("Secret %s has %d staging labels, the most there can be.", d.Name, maxLabels), Err: errFull}
	}
	return nil
}

// secret finds a secret by name or ARN.
func (p *Process) secret(id string) *secret {
	if _, after, ok := strings.Cut(id, ":secret:"); ok {
		id = strings.TrimSuffix(after, "-AbCdEf")
	}
	return p.secrets[id]
}

// DescribeSecret implements the port.
func (p *Process) DescribeSecret(ctx context.Context, secretID string) (d iamkeys.SecretDescription, err error) {
	err = p.call(ctx, "secretsmanager:DescribeSecret", func() error {
		s := p.secret(secretID)
		if s == nil {
			return noSuch("Secret %s", secretID)
		}
		asOf, own := p.now.Add(-p.late(p.SecretLag)), 0
		d = s.now(asOf)
		for _, w := range p.labelled {
			if w.to == s && w.at.After(asOf) {
				w.apply(d)
				own++
			}
		}
		if d.ARN == "" && own == 0 {
			return noSuch("Secret %s", secretID)
		}
		d.ARN, d.Name = s.arn()
		maps.DeleteFunc(d.Versions, func(_ string, labels []string) bool { return len(labels) == 0 })
		return nil
	})
	return d, err
}

// CreateSecret implements the port.
func (p *Process) CreateSecret(ctx context.Context, name string) (arn, versionID string, err error) {
	err = p.call(ctx, "secretsmanager:CreateSecret", func() error {
		if p.secrets[name] != nil {
			return nil
		}
		s := p.createSecret(name)
		arn, _ = s.arn()
		p.label(s, func(iamkeys.SecretDescription) {})
		if p.MakesFirstVersion {
			versionID = "5f0e4b5c-0000-4000-8000-000000000000"
			s.values[versionID] = ""
			p.label(s, func(d iamkeys.SecretDescription) { putLabels(d, versionID, nil) })
		}
		return nil
	})
	if err != nil {
		return "", "", err
	}
	return arn, versionID, nil
}

// writable gives the secret unless it is scheduled for deletion.
func (p *Process) writable(secretID string) (*secret, iamkeys.SecretDescription, error) {
	s := p.secret(secretID)
	if s == nil {
		return nil, iamkeys.SecretDescription{}, noSuch("Secret %s", secretID)
	}
	d := s.now(p.now)
	if d.Deleted {
		return nil, d, &iamkeys.Error{Code: iamkeys.SecretUnavailable, Message: "Secret " + secretID + " is scheduled for deletion."}
	}
	if d.PrimaryRegion != "" && d.PrimaryRegion != secretRegion {
		return nil, d, misplaced("secret %s is a replica", secretID)
	}
	return s, d, nil
}

func misplaced(format string, args ...any) error {
	return &iamkeys.Error{Code: iamkeys.InProgress, Message: "Refused: " + fmt.Sprintf(format, args...) + "."}
}

// PutSecretValue implements the port.
func (p *Process) PutSecretValue(ctx context.Context, secretID string, v iamkeys.SecretVersion) error {
	return p.call(ctx, "secretsmanager:PutSecretValue", func() error {
		s, d, err := p.writable(secretID)
		if err != nil {
			return err
		}
		value := ""
		if v.Credentials != nil {
			value = v.Credentials.AccessKeyID
		}
		if had, ok := s.values[v.ID]; ok {
			if had != value {
				return &iamkeys.Error{Code: iamkeys.Internal, Message: "Version " + v.ID + " exists with another value."}
			}
			return nil
		}
		if err := full(d, v.Stages); err != nil {
			return err
		}
		s.values[v.ID] = value
		p.label(s, func(d iamkeys.SecretDescription) { putLabels(d, v.ID, v.Stages) })
		return nil
	})
}

// UpdateSecretVersionStage implements the port.
func (p *Process) UpdateSecretVersionStage(ctx context.Context, secretID, label, moveTo, removeFrom string) error {
	return p.call(ctx, "secretsmanager:UpdateSecretVersionStage", func() error {
		s, d, err := p.writable(secretID)
		if err != nil {
			return err
		}
		_, there := s.values[moveTo]
		switch has := holder(d, label); {
		case moveTo != "" && !there:
			return misplaced("secret %s has no version %s", secretID, moveTo)
		case has != removeFrom && (has != moveTo || removeFrom != "" || p.RefusesStanding):
			return misplaced("the label %s stands on %q, not on %q", label, has, removeFrom)
		case label == "AWSCURRENT" && moveTo == "":
			return misplaced("AWSCURRENT cannot be taken off")
		}
		if moveTo != "" {
			if err := full(d, []string{label}); err != nil {
				return err
			}
		}
		p.label(s, func(d iamkeys.SecretDescription) { move(d, label, moveTo) })
		return nil
	})
}
