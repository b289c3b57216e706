package iamkeystest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"time"

	"iamkeys/pkg/iamkeys"
)

// A CredentialReport says how an account's credential report comes about. Its
// zero value is a report as IAM gives it, at once.
type CredentialReport struct {
	Takes      time.Duration               // from the first request to complete
	NoCapacity bool                        // IAM refuses to generate one
	Older      time.Duration               // it is dated, and knows of last use, that long before
	NoRoot     bool                        // the root user's row is missing
	Offset     bool                        // times end in +00:00, not in Z
	Upper      bool                        // TRUE and FALSE
	Columns    func(names []string)        // brings the columns into another order; "" leaves one out
	Spoil      func(content []byte) []byte // what becomes of the content on its way

	started   time.Time // the latest one's
	content   []byte
	generated time.Time
}

// reportAge is how long IAM gives out the same credential report.
const reportAge = 4 * time.Hour

// AddRootKey gives the root user an Active access key of that age.
func (a *Account) AddRootKey(age time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rootKeys = append(a.rootKeys, iamkeys.AccessKey{AccessKeyID: "AKIAROOT00000000", Status: iamkeys.Active, CreateDate: a.now.Add(-age).Truncate(time.Second)})
}

// DeleteRootKeys deletes the root user's access keys.
func (a *Account) DeleteRootKeys() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rootKeys = nil
}

// SetTags replaces the user's tags.
func (a *Account) SetTags(userName string, tags ...iamkeys.Tag) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.users[userName].Tags = tags
}

// Move gives the user another path, which is part of its ARN.
func (a *Account) Move(userName, path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.users[userName].ARN = "arn:aws:iam::" + a.ID + ":user" + path + userName
}

// GenerateCredentialReport implements the port.
func (p *Process) GenerateCredentialReport(ctx context.Context) (complete bool, err error) {
	err = p.call(ctx, "iam:GenerateCredentialReport", func() error {
		r := &p.CredentialReport
		if r.content == nil || p.now.Sub(r.started) > reportAge {
			if r.NoCapacity {
				return &iamkeys.Error{Code: iamkeys.LimitExceeded, Message: "No more capacity to launch new report generation tasks."}
			}
			r.started, r.generated = p.now, p.now.Add(-r.Older).Truncate(time.Second)
			r.content = p.credentialReport(r.generated)
		}
		complete = !p.now.Before(r.started.Add(r.Takes))
		return nil
	})
	return complete && err == nil, err
}

// GetCredentialReport implements the port.
func (p *Process) GetCredentialReport(ctx context.Context) (content []byte, generated time.Time, err error) {
	err = p.call(ctx, "iam:GetCredentialReport", func() error {
		r := p.CredentialReport
		switch {
		case r.content == nil:
			return &iamkeys.Error{Code: iamkeys.InProgress, Message: "ReportNotPresent"}
		case p.now.Before(r.started.Add(r.Takes)):
			return &iamkeys.Error{Code: iamkeys.InProgress, Message: "ReportInProgress"}
		case p.now.Sub(r.started) > reportAge:
			return &iamkeys.Error{Code: iamkeys.InProgress, Message: "ReportExpired"}
		}
		content, generated = r.content, r.generated
		if r.Spoil != nil {
			content = r.Spoil(bytes.Clone(content))
		}
		return nil
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	return content, generated, nil
}

// credentialReport writes the credential report as IAM does: the root user
// first, users by name without regard to case, keys by ID, no line break at the end.
func (a *Account) credentialReport(when time.Time) []byte {
	names := []string{"user", "arn", "user_creation_time", "password_enabled", "password_last_used", "password_last_changed", "password_next_rotation", "mfa_active"}
	for _, slot := range []string{"access_key_1_", "access_key_2_"} {
		for _, name := range []string{"active", "last_rotated", "last_used_date", "last_used_region", "last_used_service"} {
			names = append(names, slot+name)
		}
	}
	names = append(names, "cert_1_active", "cert_1_last_rotated", "cert_2_active", "cert_2_last_rotated")
	const additional = "additional_credentials_info"
	for name := range a.users {
		if len(a.keys(name)) > 2 && !slices.Contains(names, additional) {
			names = append(names, additional)
		}
	}
	if a.CredentialReport.Columns != nil {
		a.CredentialReport.Columns(names)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == "" })

	moment := func(t time.Time) string {
		s := t.UTC().Format(time.RFC3339)
		if a.CredentialReport.Offset {
			s = strings.TrimSuffix(s, "Z") + "+00:00"
		}
		return s
	}
	flag := func(b bool) string {
		s := strconv.FormatBool(b)
		if a.CredentialReport.Upper {
			s = strings.ToUpper(s)
		}
		return s
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	_ = w.Write(names)
	row := func(cells map[string]string, keys []iamkeys.AccessKey) {
		slices.SortFunc(keys, func(a, b iamkeys.AccessKey) int { return cmp.Compare(a.AccessKeyID, b.AccessKeyID) })
		for i := range 2 {
			slot := fmt.Sprintf("access_key_%d_", i+1)
			cells[slot+"active"] = flag(false)
			if i >= len(keys) {
				continue
			}
			k := keys[i]
			cells[slot+"active"], cells[slot+"last_rotated"] = flag(k.Status == iamkeys.Active), moment(k.CreateDate)
			if used := a.lastUsed(k.AccessKeyID, when.Add(-a.LastUsedLag)); !used.Never() {
				cells[slot+"last_used_date"] = moment(used.Date)
				cells[slot+"last_used_region"], cells[slot+"last_used_service"] = used.Region, used.ServiceName
			}
		}
		if len(keys) > 2 {
			cells[additional] = strconv.Itoa(len(keys) - 2)
		}
		var line []string
		for _, name := range names {
			line = append(line, cmp.Or(cells[name], "N/A"))
		}
		_ = w.Write(line)
	}
	if !a.CredentialReport.NoRoot {
		row(map[string]string{
			"user": "<root_account>", "arn": "arn:aws:iam::" + a.ID + ":root", "user_creation_time": moment(Epoch.AddDate(-6, 0, 0)),
			"password_enabled": flag(true), "password_last_used": moment(Epoch), "password_last_changed": moment(Epoch), "password_next_rotation": "not_supported",
			"mfa_active": flag(true), "cert_1_active": flag(false), "cert_2_active": flag(false),
		}, slices.Clone(a.rootKeys))
	}
	users := slices.SortedFunc(maps.Keys(a.users), func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.ToLower(a), strings.ToLower(b)), cmp.Compare(a, b))
	})
	for _, name := range users {
		u := a.users[name]
		row(map[string]string{
			"user": name, "arn": u.ARN, "user_creation_time": moment(u.CreateDate),
			"password_enabled": flag(false), "mfa_active": flag(false), "cert_1_active": flag(false), "cert_2_active": flag(false),
		}, a.keys(name))
	}
	w.Flush()
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// AttachToGroup attaches managed policies to a group, and makes it if need be.
func (a *Account) AttachToGroup(group string, policyARNs ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.groups == nil {
		a.groups = map[string][]string{}
	}
	a.groups[group] = append(a.groups[group], policyARNs...)
}

// Join puts the user into the group, which need not be there: IAM's answer may be of a
// moment before the group was made.
func (a *Account) Join(userName, group string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.users[userName].groups = append(a.users[userName].groups, group)
}

// ListAttachedUserPolicies implements the port.
func (p *Process) ListAttachedUserPolicies(ctx context.Context, userName string) (arns []string, err error) {
	err = p.call(ctx, "iam:ListAttachedUserPolicies", func() error {
		u := p.users[userName]
		if u == nil {
			return p.unknown("User %s", userName)
		}
		arns = slices.Clone(u.AttachedPolicies)
		return nil
	})
	return arns, err
}

// ListGroupsForUser implements the port.
func (p *Process) ListGroupsForUser(ctx context.Context, userName string) (groups []string, err error) {
	err = p.call(ctx, "iam:ListGroupsForUser", func() error {
		u := p.users[userName]
		if u == nil {
			return p.unknown("User %s", userName)
		}
		groups = slices.Clone(u.groups)
		return nil
	})
	return groups, err
}

// ListAttachedGroupPolicies implements the port.
func (p *Process) ListAttachedGroupPolicies(ctx context.Context, group string) (arns []string, err error) {
	err = p.call(ctx, "iam:ListAttachedGroupPolicies", func() error {
		attached, ok := p.groups[group]
		if !ok {
			return p.unknown("Group %s", group)
		}
		arns = slices.Clone(attached)
		return nil
	})
	return arns, err
}

// GetAccountAuthorizationDetails implements the port; each page of 1,000 users and
// groups, the users first, is a call.
func (p *Process) GetAccountAuthorizationDetails(ctx context.Context) (users []iamkeys.User, err error) {
	const page = 1000
	seen := 0
	for more := true; more; {
		err := p.call(ctx, "iam:GetAccountAuthorizationDetails", func() error {
			names := slices.Sorted(maps.Keys(p.users))
			more = len(names)+len(p.groups)-seen > page
			names = names[min(seen, len(names)):]
			seen += page
			for _, name := range names[:min(page, len(names))] {
				u := p.users[name].User
				u.Tags, u.AttachedPolicies, u.PoliciesRead = slices.Clone(u.Tags), slices.Clone(u.AttachedPolicies), true
				for _, group := range p.users[name].groups {
					attached, ok := p.groups[group]
					u.PoliciesRead = u.PoliciesRead && ok
					u.GroupPolicies = append(u.GroupPolicies, attached...)
				}
				users = append(users, u)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return users, nil
}

// GetAccountSummary implements the port.
func (p *Process) GetAccountSummary(ctx context.Context) (rootKey bool, err error) {
	err = p.call(ctx, "iam:GetAccountSummary", func() error {
		rootKey = len(p.rootKeys) > 0
		return nil
	})
	return rootKey && err == nil, err
}

// An Object is what the report bucket holds under a key.
type Object struct {
	ContentType string
	Content     []byte
}

// Objects gives what the report bucket holds, by key.
func (a *Account) Objects() map[string]Object {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.objects)
}

// Stored gives the key of every object ever put, in order.
func (a *Account) Stored() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.stored)
}

// SetObject puts an object as a person would, nil content removes it.
func (a *Account) SetObject(key string, content []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if content == nil {
		delete(a.objects, key)
		return
	}
	a.objects[key] = Object{"application/json", bytes.Clone(content)}
}

func (o Object) etag() string { return fmt.Sprintf(`"%x"`, sha256.Sum256(o.Content)) }

// GetObject implements the port.
func (p *Process) GetObject(ctx context.Context, key string) (content []byte, etag string, err error) {
	err = p.call(ctx, "s3:GetObject", func() error {
		o, ok := p.objects[key]
		if !ok {
			return noSuch("Object %s", key)
		}
		content, etag = bytes.Clone(o.Content), o.etag()
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return content, etag, nil
}

// PutObject implements the port.
func (p *Process) PutObject(ctx context.Context, key, contentType string, content io.ReadSeeker, replaces *string) error {
	body, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	return p.call(ctx, "s3:PutObject", func() error {
		there := ""
		if o, ok := p.objects[key]; ok {
			there = o.etag()
		}
		if replaces != nil && *replaces != there {
			return &iamkeys.Error{Code: iamkeys.InProgress, Message: "Another object is there."}
		}
		p.objects[key] = Object{contentType, body}
		p.stored = append(p.stored, key)
		return nil
	})
}

// Messages gives what was published to the notification topic, in order.
func (a *Account) Messages() []iamkeys.Message {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.messages)
}

// Chats gives what was published raw, in order: only the chat's topic gets that.
func (a *Account) Chats() []iamkeys.Message {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.chats)
}

// A SentMail is what SES was asked to send.
type SentMail struct{ To, Subject, Text string }

// Mails gives what SES was asked to send, in order.
func (a *Account) Mails() []SentMail {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.mails)
}

// SendEmail implements the port, and refuses what SES refuses.
// https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html
func (p *Process) SendEmail(ctx context.Context, to, subject, text string) (messageID string, err error) {
	err = p.call(ctx, "ses:SendEmail", func() error {
		if a, err := mail.ParseAddress(to); err != nil || a.Address != to || subject == "" || text == "" || strings.ContainsAny(to+subject, "\r\n") {
			return &iamkeys.Error{Code: iamkeys.Internal, Message: "SES refuses the mail."}
		}
		p.mails = append(p.mails, SentMail{to, subject, text})
		messageID = fmt.Sprintf("mail-%d", len(p.mails))
		return nil
	})
	if err != nil {
		return "", err
	}
	return messageID, nil
}

// Publish implements the port, which leaves attributes without a value out, and
// refuses what SNS refuses.
func (p *Process) Publish(ctx context.Context, m iamkeys.Message) (messageID string, err error) {
	m.Attributes = slices.DeleteFunc(slices.Clone(m.Attributes), func(a iamkeys.Attribute) bool { return a.Value == "" })
	err = p.call(ctx, "sns:Publish", func() error {
		if err := publishable(m); err != nil {
			return &iamkeys.Error{Code: iamkeys.Internal, Message: "SNS refuses the message.", Err: err}
		}
		if m.Text == "" {
			p.chats = append(p.chats, m)
			messageID = fmt.Sprintf("chat-%d", len(p.chats))
			return nil
		}
		p.messages = append(p.messages, m)
		messageID = fmt.Sprintf("message-%d", len(p.messages))
		return nil
	})
	if err != nil {
		return "", err
	}
	return messageID, nil
}

// publishable holds a message to SNS's limits.
// https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
func publishable(m iamkeys.Message) error {
	raw := m.Text == ""
	if !raw && (len(m.Subject) == 0 || len(m.Subject) >= 100) {
		return fmt.Errorf("the subject has %d characters", len(m.Subject))
	}
	for _, r := range m.Subject {
		if r < ' ' || r > '~' {
			return fmt.Errorf("the subject has the character %U", r)
		}
	}
	var byProtocol map[string]string
	switch err := json.Unmarshal([]byte(m.Body()), &byProtocol); {
	case raw && m.Body() == "":
		return fmt.Errorf("the message is empty")
	case raw:
	case err != nil:
		return fmt.Errorf("body: %w", err)
	case byProtocol["default"] == "":
		return fmt.Errorf("the body has no default")
	}
	size := len(m.Body())
	names := map[string]bool{}
	for _, a := range m.Attributes {
		kind := "String"
		if a.Number {
			kind = "Number"
			if _, err := strconv.ParseFloat(a.Value, 64); err != nil {
				return fmt.Errorf("attribute %s: %w", a.Name, err)
			}
		}
		if names[a.Name] {
			return fmt.Errorf("attribute %q is there twice", a.Name)
		}
		names[a.Name] = true
		size += len(a.Name) + len(kind) + len(a.Value)
	}
	if size > 262_144 {
		return fmt.Errorf("the message has %d bytes", size)
	}
	return nil
}
