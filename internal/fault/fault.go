// Package fault lets tests break one step of a program on purpose: before it
// took effect, after it took effect, or by killing the process there.
//
// A step that crosses to something external (a disk, a database, the network)
// goes through a Point. As long as nothing is armed a point costs one atomic
// read; nothing but a test or the environment variable HOLDFAST_FAULT arms one.
//
// In:  every package with an external step; tests arm the points.
// Out: nothing.
package fault

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Err is in the chain of every error that a point makes up.
var Err = errors.New("injected fault")

// Point is one step that can be broken. The zero value works and so does a nil
// pointer; give it a Name if processes shall be killed there (see Env). Keep it
// in the struct that takes the step, so that tests which run side by side do
// not share it. It must not be copied after first use.
type Point struct {
	// Name is package.step, for example "queue.append".
	Name string

	mu            sync.Mutex
	armed         bool          // counted in the package's armed
	before, after int           // calls until the one that fails; 0 is none
	broken        error         // every call fails with it before its effect
	held          chan struct{} // every call waits for it before its effect
}

// armed counts the points and names that are armed, in the whole process.
var armed atomic.Int64

// Or returns p with that name, or a new point of that name if p is nil. Constructors
// keep what it returns, so that a process can be killed at a point for which no
// test has given one. A name that p has already stays.
func Or(p *Point, name string) *Point {
	if p == nil {
		return &Point{Name: name}
	}
	p.Name = cmp.Or(p.Name, name)
	return p
}

// FailBefore makes the n-th call from now fail before its effect: it did not
// happen. n counts from 1; the calls after it work again.
func (p *Point) FailBefore(n int) { p.arm(func() { p.before = n }) }

// FailAfter makes the n-th call from now fail after its effect: it did happen,
// and the caller does not know. n counts from 1; the calls after it work again.
func (p *Point) FailAfter(n int) { p.arm(func() { p.after = n }) }

// Break makes every call fail with err before its effect, until Heal. A nil err
// means Err.
func (p *Point) Break(err error) {
	if err == nil {
		err = Err
	}
	p.arm(func() { p.broken = err })
}

// Hold makes every call wait before its effect, until Heal: a step that hangs.
func (p *Point) Hold() {
	p.arm(func() {
		if p.held == nil {
			p.held = make(chan struct{})
		}
	})
}

// Heal forgets all that was armed on this point; calls that wait go on.
func (p *Point) Heal() {
	p.arm(func() {
		if p.held != nil {
			close(p.held)
		}
		p.before, p.after, p.broken, p.held = 0, 0, nil, nil
	})
}

func (p *Point) arm(set func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	set()
	p.count()
}

// count keeps the package's armed in step; p.mu is held.
func (p *Point) count() {
	now := p.before > 0 || p.after > 0 || p.broken != nil || p.held != nil
	if now == p.armed {
		return
	}
	p.armed = now
	if now {
		armed.Add(1)
	} else {
		armed.Add(-1)
	}
}

// Do takes the step: it calls effect and returns its error, unless this call is
// to fail. Code that cannot be put in a function calls Before and After around
// it instead.
func (p *Point) Do(effect func() error) error {
	if err := p.Before(); err != nil {
		return err
	}
	if err := effect(); err != nil {
		return err
	}
	return p.After()
}

// Before is called ahead of the effect. If it returns an error the effect must
// not take place and the caller fails with that error.
func (p *Point) Before() error {
	if p == nil || armed.Load() == 0 {
		return nil
	}
	crash(p.Name, crashBefore)
	p.mu.Lock()
	held := p.held
	p.mu.Unlock()
	if held != nil {
		<-held
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return p.err("before", p.broken)
	}
	return p.pass(&p.before, "before")
}

// After is called when the effect has taken place. If it returns an error the
// caller fails with that error, as it would if the answer had been lost.
func (p *Point) After() error {
	if p == nil || armed.Load() == 0 {
		return nil
	}
	crash(p.Name, crashAfter)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pass(&p.after, "after")
}

func (p *Point) pass(left *int, when string) error {
	if *left == 0 {
		return nil
	}
	*left--
	p.count()
	if *left > 0 {
		return nil
	}
	return p.err(when, Err)
}

func (p *Point) err(when string, err error) error {
	return fmt.Errorf("%s %s its effect: %w", p.Name, when, err)
}
