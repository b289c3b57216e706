// Package iamkeystest has one in-memory AWS account, the only stand-in that the
// tests of iamkeys use, and the contract tests that it passes together with the
// adapters to the real services.
//
// [Account] is the account: users, access keys, secrets, stored reports and
// published messages, on a clock of its own, with the delays that AWS has.
// [Process] is one running function: it implements every port of the core on
// the account, counts its calls, and fails or dies where it is told to.
package iamkeystest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"iamkeys/pkg/iamkeys"
)

// Epoch is when an account's clock starts.
var Epoch = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// An Account is an in-memory AWS account. Its methods are what people, consumers
// and tests do; functions go through a [Process].
type Account struct {
	// The delays of AWS; all zero in a new account.
	ListLag     time.Duration // until ListAccessKeys shows a change; a process sees its own at once
	WriteLag    time.Duration // until UpdateAccessKey, DeleteAccessKey and GetAccessKeyLastUsed know a new key
	SecretLag   time.Duration // until DescribeSecret shows a change; a process sees its own at once
	LastUsedLag time.Duration // until GetAccessKeyLastUsed shows a use
	Propagation time.Duration // until a new key is accepted

	ExecutionsLag time.Duration // until ListExecutions shows a start or an end

	// DeniesUnknown makes IAM answer AccessDenied for users and keys that do not exist,
	// as it does where a policy names users by their path.
	DeniesUnknown bool
	// ThrottledUntil is until when AWS throttles every call.
	ThrottledUntil time.Time

	CredentialReport CredentialReport
	SecurityHub      SecurityHub

	// MakesFirstVersion makes CreateSecret make a current version by itself, as
	// some emulators do and AWS does not.
	MakesFirstVersion bool
	// OwnLate makes lists show a process its own writes as late as others': IAM does not
	// promise otherwise.
	OwnLate bool
	// RefusesStanding makes UpdateSecretVersionStage refuse to put a label, not taking it
	// off any version, where it stands already: AWS does not say whether it does.
	RefusesStanding bool
	// Late decides how late one read of ListAccessKeys or DescribeSecret is, of what it
	// may be at most; nil means as late as it may be.
	Late func(most time.Duration) time.Duration

	ID string // twelve digits

	mu      sync.Mutex
	now     time.Time
	serial  int
	users   map[string]*user
	groups  map[string][]string // name → ARNs of the policies attached to it
	secrets map[string]*secret
	uses    map[string]*timeline[iamkeys.LastUsed]
	holders map[string]string   // access key ID → name of the user it was made for
	made    []iamkeys.AccessKey // every key ever made
	nonces  map[string]string   // access key ID → nonce of the create that made it
	deleted []iamkeys.AccessKey // every key ever deleted, as it was then

	executions executions

	rootKeys []iamkeys.AccessKey
	objects  map[string]Object // of the report bucket
	stored   []string          // key of every object ever put
	messages []iamkeys.Message // published to the notification topic
	chats    []iamkeys.Message // published to the chat's
	mails    []SentMail        // that SES was asked to send
}

type user struct {
	iamkeys.User
	groups []string
	keys   timeline[[]iamkeys.AccessKey]
}

// A timeline remembers every state of a thing, so that reads may lag.
type timeline[T any] struct{ states []state[T] }

type state[T any] struct {
	since time.Time
	value T
}

func (t *timeline[T]) set(now time.Time, value T) { t.states = append(t.states, state[T]{now, value}) }

// at gives the state at that time, false when there was none yet.
func (t *timeline[T]) at(when time.Time) (value T, ok bool) {
	for _, s := range slices.Backward(t.states) {
		if !s.since.After(when) {
			return s.value, true
		}
	}
	return value, false
}

// NewAccount gives an empty account whose clock stands at [Epoch].
func NewAccount() *Account {
	return &Account{
		ID: "123456789012", now: Epoch, users: map[string]*user{}, secrets: map[string]*secret{}, uses: map[string]*timeline[iamkeys.LastUsed]{}, holders: map[string]string{}, nonces: map[string]string{},
		objects: map[string]Object{},
	}
}

// Now reads the account's clock.
func (a *Account) Now() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now
}

// Advance moves the account's clock on.
func (a *Account) Advance(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now = a.now.Add(d)
}

// Sleep moves the clock on instead of waiting; it fails when ctx is done.
func (a *Account) Sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a.Advance(d)
	return nil
}

// AddUser makes a user, created now.
func (a *Account) AddUser(name string, tags ...iamkeys.Tag) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := &user{User: iamkeys.User{UserName: name, ARN: "arn:aws:iam::" + a.ID + ":user/" + name, CreateDate: a.now.Truncate(time.Second), Tags: tags}}
	u.keys.set(time.Time{}, nil)
	a.users[name] = u
}

// HasUser reports whether there is a user of that name.
func (a *Account) HasUser(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.users[name] != nil
}

// Attach attaches a managed policy to the user.
func (a *Account) Attach(userName, policyARN string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.users[userName].AttachedPolicies = append(a.users[userName].AttachedPolicies, policyARN)
}

// RemoveUser deletes the user and its keys.
func (a *Account) RemoveUser(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deleted = append(a.deleted, a.keys(name)...)
	delete(a.users, name)
}

// RenameUser renames the user, who keeps its keys. Another one may be made under the old name.
func (a *Account) RenameUser(from, to string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.users[from]
	delete(a.users, from)
	a.users[to] = u
	u.UserName, u.ARN = to, strings.TrimSuffix(u.ARN, from)+to
	for id, holder := range a.holders {
		if holder == from {
			a.holders[id] = to
		}
	}
}

// AddKey makes an Active key of that age, as a person would in the console, and
// gives its ID. It does not mind the limit of two.
func (a *Account) AddKey(userName string, age time.Duration) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.addKey(userName, a.now.Add(-age)).AccessKeyID
}

func (a *Account) addKey(userName string, created time.Time) iamkeys.AccessKey {
	a.serial++
	k := iamkeys.AccessKey{UserName: userName, AccessKeyID: fmt.Sprintf("AKIAIAMKEYSTEST%05d", a.serial), Status: iamkeys.Active, CreateDate: created.Truncate(time.Second)}
	a.setKeys(userName, append(a.keys(userName), k))
	a.made = append(a.made, k)
	a.holders[k.AccessKeyID] = userName
	return k
}

// SetStatus changes a key's status, as a person would.
func (a *Account) SetStatus(userName, accessKeyID string, status iamkeys.Status) {
	a.mu.Lock()
	defer a.mu.Unlock()
	keys := a.keys(userName)
	for i := range keys {
		if keys[i].AccessKeyID == accessKeyID {
			keys[i].Status = status
		}
	}
	a.setKeys(userName, keys)
}

// DeleteKey deletes a key, as a person would.
func (a *Account) DeleteKey(userName, accessKeyID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deleteKey(userName, accessKeyID)
}

func (a *Account) deleteKey(userName, accessKeyID string) {
	a.setKeys(userName, slices.DeleteFunc(a.keys(userName), func(k iamkeys.AccessKey) bool {
		if k.AccessKeyID == accessKeyID {
			a.deleted = append(a.deleted, k)
		}
		return k.AccessKeyID == accessKeyID
	}))
}

// keys gives a copy of the user's keys as they are, nil for an unknown user.
func (a *Account) keys(userName string) []iamkeys.AccessKey {
	u := a.users[userName]
	if u == nil {
		return nil
	}
	keys, _ := u.keys.at(a.now)
	return slices.Clone(keys)
}

func (a *Account) setKeys(userName string, keys []iamkeys.AccessKey) {
	a.users[userName].keys.set(a.now, keys)
}

// Keys gives the user's keys as they are, whatever lags.
func (a *Account) Keys(userName string) []iamkeys.AccessKey {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.keys(userName)
}

// Deleted gives every key that was deleted, with the status it had then.
func (a *Account) Deleted() []iamkeys.AccessKey {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.deleted)
}

// Made gives every key ever made.
func (a *Account) Made() []iamkeys.AccessKey {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.made)
}

// Trail gives the keys that were made under that nonce, as CloudTrail shows them.
func (a *Account) Trail(nonce string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var ids []string
	for _, k := range a.made {
		if nonce != "" && a.nonces[k.AccessKeyID] == nonce {
			ids = append(ids, k.AccessKeyID)
		}
	}
	return ids
}

// OwnerOf gives the name of the user that has that key, "" when there is none (any more).
func (a *Account) OwnerOf(accessKeyID string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.owner(accessKeyID); !ok {
		return ""
	}
	return a.holders[accessKeyID]
}

// SecretOf gives the secret access key of that key. It is made of the ID, so
// that a test can search output for it.
func SecretOf(accessKeyID string) string { return "wJalr/SECRET/of/" + accessKeyID + "/XUtnFEMI" }

// owner gives the user and key of that ID.
func (a *Account) owner(accessKeyID string) (iamkeys.AccessKey, bool) {
	for _, k := range a.keys(a.holders[accessKeyID]) {
		if k.AccessKeyID == accessKeyID {
			return k, true
		}
	}
	return iamkeys.AccessKey{}, false
}

// Use signs a request with the key, as a consumer does. It reports whether the
// key was accepted: it exists, is Active, and is known everywhere by now.
func (a *Account) Use(accessKeyID, service, region string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	k, ok := a.owner(accessKeyID)
	if !ok || k.Status != iamkeys.Active || a.now.Before(k.CreateDate.Add(a.Propagation)) {
		return false
	}
	a.use(accessKeyID, service, region)
	return true
}

// UsedAgo sets a key's last use to a time in the past.
func (a *Account) UsedAgo(accessKeyID string, ago time.Duration, service, region string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := &timeline[iamkeys.LastUsed]{}
	t.set(a.now.Add(-ago), iamkeys.LastUsed{Date: a.now.Add(-ago).Truncate(time.Second), ServiceName: service, Region: region})
	a.uses[accessKeyID] = t
}

// use notes a use as IAM does: the first one within 15 minutes.
func (a *Account) use(accessKeyID, service, region string) {
	t := a.uses[accessKeyID]
	if t == nil {
		t = &timeline[iamkeys.LastUsed]{}
		a.uses[accessKeyID] = t
	}
	if last, ok := t.at(a.now); !ok || a.now.Sub(last.Date) >= 15*time.Minute {
		t.set(a.now, iamkeys.LastUsed{Date: a.now.Truncate(time.Second), ServiceName: service, Region: region})
	}
}

func (a *Account) lastUsed(accessKeyID string, when time.Time) iamkeys.LastUsed {
	if t := a.uses[accessKeyID]; t != nil {
		used, _ := t.at(when)
		return used
	}
	return iamkeys.LastUsed{}
}
