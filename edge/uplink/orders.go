package uplink

import (
	"sync"

	"github.com/agogsaas/holdfast/proto"
)

// orders are what the region, or a new epoch, asks of Tables. Whoever gives
// one never waits: while the local database is down orders add up into one,
// and the stream goes on.
type orders struct {
	wake chan struct{} // holds a token when there is something to take

	mu   sync.Mutex
	next order
}

// order is all that is to be done next; later words about the same thing
// replace earlier ones.
type order struct {
	tables    *proto.Tables // what is synced
	reload    []string      // tables to send again
	reloadAll bool
	mends     []mend // and these, unless that was heard
	checks    []check
	settled   []chan<- struct{} // closed once the list is settled with all this
}

// mend is a table that the region asks for until it knows that that was heard.
type mend struct{ table, occasion string }

// check is a question whether a table could be synced.
type check struct {
	table proto.SyncedTable
	reply func([]proto.Problem)
}

// checksMax bounds the questions that wait; who asks gives up in seconds.
const checksMax = 16

func newOrders() *orders { return &orders{wake: make(chan struct{}, 1)} }

// give adds an order. An empty one only has the list looked at again.
func (o *orders) give(n order) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n.tables != nil {
		o.next.tables = n.tables
	}
	o.next.reloadAll = o.next.reloadAll || n.reloadAll
	o.next.reload = append(o.next.reload, n.reload...)
	o.next.mends = append(o.next.mends, n.mends...)
	o.next.checks = append(o.next.checks, n.checks...)
	o.next.checks = o.next.checks[max(0, len(o.next.checks)-checksMax):]
	o.next.settled = append(o.next.settled, n.settled...)
	o.signal()
}

// take takes everything that waits.
func (o *orders) take() order {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := o.next
	o.next = order{}
	return n
}

// giveBack keeps an order that could not be carried out. Questions are
// dropped: their time is over.
func (o *orders) giveBack(n order) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.next.tables == nil {
		o.next.tables = n.tables
	}
	o.next.reloadAll = o.next.reloadAll || n.reloadAll
	o.next.reload = append(n.reload, o.next.reload...)
	o.next.mends = append(n.mends, o.next.mends...)
	o.next.settled = append(n.settled, o.next.settled...)
	o.signal()
}

func (o *orders) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}
