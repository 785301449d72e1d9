package apply

import (
	"context"
	"errors"
	"sync"

	"github.com/agogsaas/holdfast/internal/change"
)

// ErrEnded is returned by Push after Run has ended without an error of its own.
var ErrEnded = errors.New("applying has ended")

// arrived is a frame as it was pushed.
type arrived struct {
	change.Sealed
	// sparse: the frame follows prev, and more says that the next one belongs
	// to the same transactions. Otherwise its own numbers say what it follows.
	sparse, more bool
	prev         change.Position
}

// inbox is the sealed frames that wait, bounded by their bytes.
type inbox struct {
	mu     sync.Mutex
	frames []arrived
	bytes  int
	err    error         // why it has ended
	ended  chan struct{} // closed with err
	// more and less each hold a token when frames were added or taken.
	more, less chan struct{}
}

func newInbox() *inbox {
	return &inbox{ended: make(chan struct{}), more: make(chan struct{}, 1), less: make(chan struct{}, 1)}
}

func (in *inbox) push(ctx context.Context, s arrived) error {
	for {
		in.mu.Lock()
		if in.err != nil {
			in.mu.Unlock()
			return in.err
		}
		if in.bytes == 0 || in.bytes+len(s.Bytes) <= inboxMaxBytes {
			in.frames = append(in.frames, s)
			in.bytes += len(s.Bytes)
			in.mu.Unlock()
			signal(in.more)
			return nil
		}
		in.mu.Unlock()
		select {
		case <-in.less:
		case <-in.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (in *inbox) pop(ctx context.Context) (arrived, error) {
	for {
		in.mu.Lock()
		if len(in.frames) > 0 {
			s := in.frames[0]
			in.frames[0] = arrived{}
			in.frames = in.frames[1:]
			in.bytes -= len(s.Bytes)
			in.mu.Unlock()
			signal(in.less)
			return s, nil
		}
		in.mu.Unlock()
		select {
		case <-in.more:
		case <-ctx.Done():
			return arrived{}, ctx.Err()
		}
	}
}

// end makes every later push fail with err.
func (in *inbox) end(err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		err = ErrEnded
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.err == nil {
		in.err = err
		close(in.ended)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
