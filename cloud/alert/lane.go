package alert

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agogsaas/holdfast/cloud/channel"
)

const (
	// slots is how many messages are on their way to a channel's provider at once,
	// in one process.
	slots = 8
	// hostSlots is how many are on their way to one host, where there are many, and
	// hostsSlots how many to all of them: one that hangs holds its own few, and not
	// those of the others.
	hostSlots  = 4
	hostsSlots = 64
	// laneKeep is how long it is remembered that a host failed.
	laneKeep = 10 * time.Minute
)

// byHost are the channels whose messages go where the one who enters an address
// says. Of the others each has one provider. sqlHost knows them too.
var byHost = map[channel.Kind]bool{channel.Webhook: true, channel.Teams: true}

// sqlHost is the destination of a delivery d.
const sqlHost = `CASE WHEN d.channel IN ('webhook', 'teams') THEN
    coalesce((SELECT substring(lower(m.address) FROM '^https?://([^/?#]+)') FROM holdfast.contact_method m WHERE m.id = d.method), '') ELSE '' END`

// Where something is due, as far as it is not one of some hosts.
const sqlHostsDue = `
SELECT host FROM (
    SELECT ` + sqlHost + ` AS host, d.priority, d.not_before FROM holdfast.delivery d
    WHERE d.channel = $1 AND (d.state IN ('pending', 'held') AND d.not_before <= $2 OR d.state = 'leased' AND d.lease_until < $2)) q
WHERE host <> ALL ($3) GROUP BY host ORDER BY max(priority) DESC, min(not_before) LIMIT $4`

// lane is the way to one destination. What hangs or fails there keeps back what
// is to be sent there, and nothing else.
type lane struct {
	*deliverer
	host    string // "" for a channel's provider
	breaker breaker
	under   int // how many messages are on their way there; guarded by the deliverer's mu
}

// lane returns the way to a host, to be called with mu held.
func (d *deliverer) lane(host string) *lane {
	l := d.lanes[host]
	if l == nil {
		l = &lane{deliverer: d, host: host, breaker: breaker{pause: d.a.timing.breaker}}
		d.lanes[host] = l
	}
	return l
}

// open returns the ways on which something may be due, and forgets those that are
// not needed any more.
func (d *deliverer) open(ctx context.Context) ([]*lane, error) {
	hosts := []string{""}
	if byHost[d.kind] {
		full := []string{}
		now := d.a.moment()
		d.mu.Lock()
		for host, l := range d.lanes {
			switch {
			case l.under >= hostSlots:
				full = append(full, host)
			case l.under == 0 && l.breaker.quiet(now):
				delete(d.lanes, host)
			}
		}
		most := hostsSlots - d.busy
		d.mu.Unlock()
		var err error
		if hosts, err = d.a.store.hostsDue(ctx, d.kind, now, full, most); err != nil {
			return nil, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	lanes := make([]*lane, len(hosts))
	for i, host := range hosts {
		lanes[i] = d.lane(host)
	}
	return lanes, nil
}

// room takes up to n places for messages.
func (l *lane) room(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = min(n, slots-l.under)
	if byHost[l.kind] {
		n = min(n, hostSlots-l.under, hostsSlots-l.busy)
	}
	l.under, l.busy = l.under+n, l.busy+n
	return n
}

// leave gives n places back.
func (l *lane) leave(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.under, l.busy = l.under-n, l.busy-n
}

// broken says whether the provider fails, and why. Where there are many hosts,
// one that fails says nothing of the channel: then only why.
func (d *deliverer) broken() (yes bool, why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var hosts []string
	for host, l := range d.lanes {
		if b, w := l.breaker.broken(); b && host == "" {
			return true, w
		} else if b {
			hosts = append(hosts, host+" fails: "+w)
		}
	}
	slices.Sort(hosts)
	switch len(hosts) {
	case 0:
		return false, ""
	case 1:
		return false, hosts[0]
	}
	return false, fmt.Sprintf("%d hosts fail, such as %s", len(hosts), hosts[0])
}

func (s store) hostsDue(ctx context.Context, k channel.Kind, now time.Time, except []string, most int) ([]string, error) {
	rows, err := s.db.Query(ctx, sqlHostsDue, k, now, except, most)
	if err != nil {
		return nil, fmt.Errorf("look where messages of %s are due: %w", k, err)
	}
	hosts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look where messages of %s are due: %w", k, err)
	}
	return hosts, nil
}
