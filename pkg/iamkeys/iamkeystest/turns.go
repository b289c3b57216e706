package iamkeystest

import (
	"context"
	"sync"
	"time"
)

// Turns lets several processes run on one account one call at a time, in an
// order that the test picks. Sleeping processes wait for the account's clock,
// which moves on only when everybody sleeps or the test picks a sleeper.
type Turns struct {
	account *Account
	pick    func(ready []int) int

	mu    sync.Mutex
	moved *sync.Cond
	state []turnState
}

type turnState struct {
	waiting, done bool
	until         time.Time // when a sleeper wants to wake
	turn          chan struct{}
}

// TakeTurns prepares for n processes. pick chooses one of those that are ready.
func TakeTurns(a *Account, n int, pick func(ready []int) int) *Turns {
	t := &Turns{account: a, pick: pick, state: make([]turnState, n)}
	t.moved = sync.NewCond(&t.mu)
	for i := range t.state {
		t.state[i].turn = make(chan struct{})
	}
	return t
}

// Go starts process i; it stops at its first [Turns.Wait].
func (t *Turns) Go(i int, f func()) {
	go func() {
		defer func() {
			t.mu.Lock()
			t.state[i].done, t.state[i].waiting = true, true
			t.moved.Broadcast()
			t.mu.Unlock()
		}()
		f()
	}()
}

// Wait blocks process i until it is picked.
func (t *Turns) Wait(i int) { t.waitUntil(i, time.Time{}) }

// Sleep blocks process i until it is picked, after the account's clock has moved on by d.
func (t *Turns) Sleep(ctx context.Context, i int, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t.waitUntil(i, t.account.Now().Add(d))
	return nil
}

func (t *Turns) waitUntil(i int, until time.Time) {
	t.mu.Lock()
	t.state[i].waiting, t.state[i].until = true, until
	t.moved.Broadcast()
	t.mu.Unlock()
	<-t.state[i].turn
}

// Sleeps tells how long process i still sleeps, 0 when it does not. It is for pick.
func (t *Turns) Sleeps(i int) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(0, t.state[i].until.Sub(t.account.Now()))
}

// Run hands out turns until every process is done.
func (t *Turns) Run() {
	for {
		t.mu.Lock()
		var ready []int
		for i := range t.state {
			for !t.state[i].waiting {
				t.moved.Wait()
			}
			if !t.state[i].done {
				ready = append(ready, i)
			}
		}
		t.mu.Unlock()
		if len(ready) == 0 {
			return
		}
		i := t.pick(ready)
		if left := t.state[i].until.Sub(t.account.Now()); left > 0 {
			t.account.Advance(left)
		}
		t.mu.Lock()
		t.state[i].waiting = false
		t.mu.Unlock()
		t.state[i].turn <- struct{}{}
	}
}
