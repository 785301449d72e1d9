package uplink

import (
	"github.com/agogsaas/holdfast/internal/change"
	"github.com/agogsaas/holdfast/internal/transfer"
)

// Sent is how far frames were handed to the link. It says nothing of what has
// arrived.
type Sent struct {
	// Position is the last transaction that was sent on the present stream, or
	// the last one; before the first it is where that began.
	Position change.Position
	// Furthest and Part are the furthest frame that was ever sent: a stream that
	// begins again and again does not get further.
	Furthest change.Position
	Part     uint32
}

// Sent returns how far frames were sent.
func (u *Uplink) Sent() Sent {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sent
}

func (u *Uplink) noteBegin(at change.Position) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent.Position = at
}

func (u *Uplink) noteSent(f change.Sealed) {
	at := change.Position{Epoch: f.Header.Epoch, Seq: f.Header.Last}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent.Position = at
	if u.sent.Furthest.Before(at) || at == u.sent.Furthest && u.sent.Part < f.Header.Part {
		u.sent.Furthest, u.sent.Part = at, f.Header.Part
	}
}

// setPace holds a session's frames to what the region says.
func (u *Uplink) setPace(s *transfer.Sender, bytesPerSecond uint64) {
	s.Limit(bytesPerSecond)
	u.setLink(func(l *Link) { l.BytesPerSecond = bytesPerSecond })
}
