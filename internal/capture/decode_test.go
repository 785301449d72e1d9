package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/change"
)

func benchStream(t testing.TB) *stream {
	c, err := New(Config{ConnString: "x", Slot: "x", Next: change.Position{Epoch: testEpoch, Seq: 1}}, &nowhere{})
	if err != nil {
		t.Fatal(err)
	}
	s := newStream(c, nil, c.c.Next, 0)
	benchRelation(s)
	return s
}

func beginMessage() []byte {
	return walData(append([]byte{'B', 0, 0, 0, 0, 0, 0, 0, 9}, make([]byte, 12)...))
}

func commitMessage() []byte {
	return walData(append([]byte{'C', 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 9}, make([]byte, 8)...))
}

func TestTruncatedMessagesAreRefused(t *testing.T) {
	t.Parallel()
	rel := binary.BigEndian.AppendUint32([]byte{'R'}, 8)
	rel = append(rel, "s\x00t\x00d\x00\x01\x01id\x00\x00\x00\x00\x17\xff\xff\xff\xff"...)
	for _, m := range [][]byte{beginMessage(), commitMessage(), insertMessage(1), walData(rel)} {
		for cut := range len(m) {
			if cut == 25 && m[25] != 'I' { // whole header, empty body
				continue
			}
			s := benchStream(t)
			s.mu.Lock()
			if err := s.message(t.Context(), m[:cut]); !errors.Is(err, errMessage) {
				t.Errorf("%q cut at %d of %d: %v", m[25], cut, len(m), err)
			}
		}
	}
}

// FuzzMessages feeds the decoder a transaction with a foreign message inside.
// Whatever it takes must seal into a frame that opens.
func FuzzMessages(f *testing.F) {
	f.Add(insertMessage(1)[25:])
	update := binary.BigEndian.AppendUint32([]byte{'U'}, 7)
	f.Add(append(update, "K\x00\x06nnnnnnN\x00\x06t\x00\x00\x00\x01xunnnn"...))
	f.Add(append(update, "O\x00\x06nnnnnnN\x00\x06uuuuuu"...))
	f.Add([]byte("D\x00\x00\x00\x07K\x00\x06t\x00\x00\x00\x01xnnnnn"))
	f.Add([]byte("T\x00\x00\x00\x02\x00\x00\x00\x00\x07\x00\x00\x00\x07"))
	f.Add([]byte("M\x01\x00\x00\x00\x00\x00\x00\x00\x00holdfast\x00\x00\x00\x00\x00"))
	f.Add([]byte("M\x01\x00\x00\x00\x00\x00\x00\x00\x00holdfast.range\x00\x00\x00\x00\x01\x82"))
	f.Add([]byte("O"))
	f.Fuzz(func(t *testing.T, inner []byte) {
		if len(inner) > 0 && inner[0] == 'R' {
			return // asks the catalog
		}
		s := benchStream(t)
		s.mu.Lock()
		for _, m := range [][]byte{beginMessage(), insertMessage(1), walData(inner), insertMessage(2), commitMessage()} {
			if err := s.message(context.Background(), m); err != nil {
				return
			}
		}
		if len(inner) > 0 && inner[0] == 'C' {
			return
		}
		s.idle = true
		s.mu.Unlock()
		b, _ := s.take(time.Now())
		if b == nil {
			return
		}
		frames, err := s.seal(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, frame := range frames {
			if _, err := frame.Open(); err != nil {
				t.Fatalf("%q: %v", inner, err)
			}
		}
	})
}
