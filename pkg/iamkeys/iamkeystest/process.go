package iamkeystest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"iamkeys/pkg/iamkeys"
)

// A Fault is what happens to a call.
type Fault int

// The faults.
const (
	None       Fault = iota
	Refused          // fails for certain, without effect
	Throttled        // fails for certain, since AWS throttles: worth another try
	Unanswered       // without effect, but the caller cannot know
	Lost             // takes effect, but the answer is lost
	Dies             // the process is gone before the call
	DiesAfter        // the call takes effect, then the process is gone
)

// Faults lists every fault but None.
var Faults = []Fault{Refused, Throttled, Unanswered, Lost, Dies, DiesAfter}

func (f Fault) String() string {
	return [...]string{"none", "refused", "throttled", "unanswered", "lost", "dies", "dies after"}[f]
}

// A Process is one running function on an account. It implements the ports of
// every operation.
type Process struct {
	*Account
	// Fault decides over each call; nil means no faults. n counts from 1. Like the
	// functions below it is called by each goroutine that calls, side by side.
	Fault func(n int, action string) Fault
	// Before runs before each call, outside of it: what others do meanwhile.
	Before func(n int, action string)
	// Wait runs in each call, before its effect, which a call whose context has
	// ended by then does not have.
	Wait func(ctx context.Context, action string)
	// After runs after each call that had its effect or was refused by the account,
	// before its answer: err is the account's.
	After func(action string, err error)
	// Clock is how far the process's clock is ahead of AWS's.
	Clock time.Duration
	// Untimed is set where time is the account's alone: a context's deadline, which is
	// one of real time, then ends no call.
	Untimed bool

	Calls []string // the actions called, such as iam:ListAccessKeys

	own      []ownWrite  // to keys, oldest first
	labelled []ownLabels // of secrets, oldest first

	counting sync.Mutex // over Calls and dead
	dead     bool
	with     *Process // whose calls and faults these are, too; nil for itself
	refuse   error    // of every call; nil for none
}

// At gives the same process where it calls another account, with a role there: calls
// are counted, and fail, as its own.
func (p *Process) At(a *Account) *Process { return &Process{Account: a, with: p} }

// An ownWrite is what a process did to a user's keys: its lists show it at once.
type ownWrite struct {
	at       time.Time
	userName string
	apply    func([]iamkeys.AccessKey) []iamkeys.AccessKey
}

// Start gives a process on the account.
func (a *Account) Start() *Process { return &Process{Account: a} }

// Now reads the process's clock.
func (p *Process) Now() time.Time { return p.Account.Now().Add(p.Clock) }

// late gives how late a read is that may be so late at most.
func (p *Process) late(most time.Duration) time.Duration {
	if p.Late == nil || most == 0 {
		return most
	}
	return p.Late(most)
}

// Run runs f as the process, and reports whether the process died in it. Of a
// dead process every goroutine ends at its next call.
func (p *Process) Run(f func()) (died bool) {
	ended := make(chan any)
	go func() {
		defer func() { ended <- recover() }()
		f()
	}()
	if panicked := <-ended; panicked != nil {
		panic(panicked)
	}
	p.counting.Lock()
	defer p.counting.Unlock()
	return p.dead
}

// die ends the process, beginning with the calling goroutine.
func (p *Process) die() {
	if p.with != nil {
		p.with.die()
	}
	p.counting.Lock()
	p.dead = true
	p.counting.Unlock()
	runtime.Goexit()
}

// begin counts a call, unless the process is dead.
func (p *Process) begin(action string) (n int) {
	if p.with != nil {
		return p.with.begin(action)
	}
	p.counting.Lock()
	defer p.counting.Unlock() // also when it ends here
	if p.dead {
		runtime.Goexit()
	}
	p.Calls = append(p.Calls, action)
	return len(p.Calls)
}

// call runs one call's effect under the account's lock, with the fault that is due.
func (p *Process) call(ctx context.Context, action string, effect func() error) error {
	n, self := p.begin(action), p
	if p.with != nil {
		self = p.with
	}
	if self.Before != nil {
		self.Before(n, action)
	}
	if self.Wait != nil {
		self.Wait(ctx, action)
	}
	fault := None
	if self.Fault != nil {
		fault = self.Fault(n, action)
	}
	unanswered := func(cause error) error {
		return &iamkeys.Error{Code: iamkeys.Internal, Message: action + " got no answer.", Err: cause, OutcomeUnknown: true}
	}
	injected := fmt.Errorf("injected: %s", fault)
	switch {
	case fault == Dies:
		p.die()
	case ctx.Err() != nil && !(self.Untimed && errors.Is(ctx.Err(), context.DeadlineExceeded)):
		return unanswered(ctx.Err())
	case fault == Refused:
		return &iamkeys.Error{Code: iamkeys.AccessDenied, Message: action + " is not permitted.", Err: injected}
	case fault == Unanswered:
		return unanswered(injected)
	case p.refuse != nil:
		return p.refuse
	}
	p.mu.Lock()
	var err error
	if fault == Throttled || p.now.Before(p.ThrottledUntil) {
		err = &iamkeys.Error{Code: iamkeys.Throttled, Message: "AWS throttled " + action + ".", Err: injected}
	} else {
		err = effect()
	}
	p.mu.Unlock()
	if p.After != nil {
		p.After(action, err)
	}
	switch fault {
	case DiesAfter:
		p.die()
	case Lost:
		return unanswered(injected)
	}
	return err
}

// unknown is IAM's answer about a user or key that does not exist.
func (p *Process) unknown(format string, args ...any) error {
	if p.DeniesUnknown {
		return &iamkeys.Error{Code: iamkeys.AccessDenied, Message: fmt.Sprintf(format, args...) + " is not permitted, or does not exist."}
	}
	return noSuch(format, args...)
}

func noSuch(format string, args ...any) error {
	return &iamkeys.Error{Code: iamkeys.NoSuchEntity, Message: fmt.Sprintf(format, args...) + " does not exist."}
}

// GetUser implements the port.
func (p *Process) GetUser(ctx context.Context, userName string) (found iamkeys.User, err error) {
	err = p.call(ctx, "iam:GetUser", func() error {
		u := p.users[userName]
		if u == nil {
			return p.unknown("User %s", userName)
		}
		found = u.User
		found.AttachedPolicies = nil
		return nil
	})
	return found, err
}

// ListAccessKeys implements the port.
func (p *Process) ListAccessKeys(ctx context.Context, userName string) (keys []iamkeys.AccessKey, err error) {
	err = p.call(ctx, "iam:ListAccessKeys", func() error {
		u := p.users[userName]
		if u == nil {
			return p.unknown("User %s", userName)
		}
		asOf := p.now.Add(-p.late(p.ListLag))
		seen, _ := u.keys.at(asOf)
		keys = slices.Clone(seen)
		for _, w := range p.own {
			if w.userName == userName && w.at.After(asOf) && !p.OwnLate {
				keys = w.apply(keys)
			}
		}
		for i := range keys {
			keys[i].UserName = userName // which it may not have been when the key was made
		}
		return nil
	})
	return keys, err
}

// CreateAccessKey implements the port.
func (p *Process) CreateAccessKey(ctx context.Context, userName, nonce string) (created iamkeys.Credentials, err error) {
	err = p.call(ctx, "iam:CreateAccessKey", func() error {
		if p.users[userName] == nil {
			return p.unknown("User %s", userName)
		}
		if len(p.keys(userName)) >= 2 {
			return &iamkeys.Error{Code: iamkeys.LimitExceeded, Message: "User " + userName + " has two access keys."}
		}
		k := p.addKey(userName, p.now)
		p.nonces[k.AccessKeyID] = nonce
		p.wrote(userName, func(keys []iamkeys.AccessKey) []iamkeys.AccessKey {
			if slices.ContainsFunc(keys, func(l iamkeys.AccessKey) bool { return l.AccessKeyID == k.AccessKeyID }) {
				return keys
			}
			return append(keys, k)
		})
		created = iamkeys.Credentials{UserName: userName, AccessKeyID: k.AccessKeyID, CreateDate: k.CreateDate, Secret: iamkeys.NewSecret(SecretOf(k.AccessKeyID))}
		return nil
	})
	if err != nil {
		return iamkeys.Credentials{}, err
	}
	return created, nil
}

// wrote notes a write of the process to the user's keys.
func (p *Process) wrote(userName string, apply func([]iamkeys.AccessKey) []iamkeys.AccessKey) {
	p.own = append(p.own, ownWrite{p.now, userName, apply})
}

// known gives the user's key as UpdateAccessKey and DeleteAccessKey know it.
func (p *Process) known(userName, accessKeyID string) error {
	if p.users[userName] == nil {
		return p.unknown("User %s", userName)
	}
	for _, k := range p.keys(userName) {
		if k.AccessKeyID == accessKeyID && !p.now.Before(k.CreateDate.Add(p.WriteLag)) {
			return nil
		}
	}
	return noSuch("Access key %s of user %s", accessKeyID, userName)
}

// UpdateAccessKey implements the port.
func (p *Process) UpdateAccessKey(ctx context.Context, userName, accessKeyID string, status iamkeys.Status) error {
	return p.call(ctx, "iam:UpdateAccessKey", func() error {
		if err := p.known(userName, accessKeyID); err != nil {
			return err
		}
		set := func(keys []iamkeys.AccessKey) []iamkeys.AccessKey {
			for i := range keys {
				if keys[i].AccessKeyID == accessKeyID {
					keys[i].Status = status
				}
			}
			return keys
		}
		p.setKeys(userName, set(p.keys(userName)))
		p.wrote(userName, set)
		return nil
	})
}

// DeleteAccessKey implements the port.
func (p *Process) DeleteAccessKey(ctx context.Context, userName, accessKeyID string) error {
	return p.call(ctx, "iam:DeleteAccessKey", func() error {
		if err := p.known(userName, accessKeyID); err != nil {
			return err
		}
		p.deleteKey(userName, accessKeyID)
		p.wrote(userName, func(keys []iamkeys.AccessKey) []iamkeys.AccessKey {
			return slices.DeleteFunc(keys, func(k iamkeys.AccessKey) bool { return k.AccessKeyID == accessKeyID })
		})
		return nil
	})
}

// GetAccessKeyLastUsed implements the port.
func (p *Process) GetAccessKeyLastUsed(ctx context.Context, accessKeyID string) (used iamkeys.LastUsed, err error) {
	err = p.call(ctx, "iam:GetAccessKeyLastUsed", func() error {
		if k, ok := p.owner(accessKeyID); !ok || p.now.Before(k.CreateDate.Add(p.WriteLag)) {
			return p.unknown("Access key %s", accessKeyID)
		}
		used = p.lastUsed(accessKeyID, p.now.Add(-p.LastUsedLag))
		used.UserName = p.holders[accessKeyID]
		return nil
	})
	return used, err
}

// GetCallerIdentity implements the port, and counts as a use of the key.
func (p *Process) GetCallerIdentity(ctx context.Context, c iamkeys.Credentials) (arn string, err error) {
	err = p.call(ctx, "sts:GetCallerIdentity", func() error {
		k, ok := p.owner(c.AccessKeyID)
		if !ok || k.Status != iamkeys.Active || p.now.Before(k.CreateDate.Add(p.Propagation)) {
			return &iamkeys.Error{Code: iamkeys.AccessDenied, Message: "The security token included in the request is invalid."}
		}
		p.use(k.AccessKeyID, "sts", "eu-west-1")
		arn = p.users[p.holders[k.AccessKeyID]].ARN
		return nil
	})
	return arn, err
}

// IAMCalls is the number of calls to IAM so far.
func (p *Process) IAMCalls() int {
	p.counting.Lock()
	defer p.counting.Unlock()
	n := 0
	for _, c := range p.Calls {
		if strings.HasPrefix(c, "iam:") {
			n++
		}
	}
	return n
}

// Count tells how often the action was called.
func (p *Process) Count(action string) int {
	p.counting.Lock()
	defer p.counting.Unlock()
	n := 0
	for _, c := range p.Calls {
		if c == action {
			n++
		}
	}
	return n
}
