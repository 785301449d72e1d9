package hint_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/agogsaas/holdfast/internal/hint"
)

func TestAdviceTravelsBesideTheError(t *testing.T) {
	t.Parallel()
	err := hint.Wrap(io.ErrShortWrite, "Free at least %s on the data disk.", "2 GiB")
	err = fmt.Errorf("append frame: %w", err)
	if got, want := hint.Of(err), "Free at least 2 GiB on the data disk."; got != want {
		t.Errorf("Of = %q, want %q", got, want)
	}
	if got, want := err.Error(), "append frame: short write"; got != want {
		t.Errorf("Error = %q, want %q", got, want)
	}
	if !errors.Is(err, io.ErrShortWrite) {
		t.Error("the cause is lost")
	}
}

func TestInnermostAdviceCounts(t *testing.T) {
	t.Parallel()
	err := hint.Wrap(hint.Wrap(io.EOF, "use 100% of it"), "outer")
	if got := hint.Of(fmt.Errorf("read: %w", err)); got != "use 100% of it" {
		t.Errorf("Of = %q", got)
	}
}

func TestNoErrorNoAdvice(t *testing.T) {
	t.Parallel()
	if hint.Wrap(nil, "x") != nil {
		t.Error("Wrap(nil) is an error")
	}
	if got := hint.Of(nil) + hint.Of(io.EOF); got != "" {
		t.Errorf("advice from nowhere: %q", got)
	}
	joined := errors.Join(io.EOF, hint.Wrap(io.ErrClosedPipe, "Reconnect."))
	if got := hint.Of(joined); got != "Reconnect." {
		t.Errorf("advice inside a join: %q", got)
	}
}
