package provision

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/agogsaas/holdfast/proto"
)

// requestsAtOnce bounds the work that the service does at the same time; the
// rest waits its turn, or is told to come again.
const requestsAtOnce = 16

func (p *Provision) handler() http.Handler {
	turn := make(chan struct{}, requestsAtOnce)
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+proto.EnrolPath, func(w http.ResponseWriter, r *http.Request) {
		p.serve(w, r, turn, func(ctx context.Context, body []byte) (*proto.EnrolAnswer, error) {
			msg, err := proto.DecodeEnrolRequest(body)
			if err != nil {
				return nil, badRequest(err.Error())
			}
			return p.enrol(ctx, msg)
		})
	})
	mux.HandleFunc("POST "+proto.RenewPath, func(w http.ResponseWriter, r *http.Request) {
		p.serve(w, r, turn, func(ctx context.Context, body []byte) (*proto.EnrolAnswer, error) {
			msg, err := proto.DecodeRenewRequest(body)
			if err != nil {
				return nil, badRequest(err.Error())
			}
			return p.renew(ctx, msg)
		})
	})
	return mux
}

// serve reads a request, has it decided, and answers.
func (p *Provision) serve(w http.ResponseWriter, r *http.Request, turn chan struct{}, decide func(context.Context, []byte) (*proto.EnrolAnswer, error)) {
	if wait, ok := p.limit.allow(r.RemoteAddr); !ok {
		p.refuse(w, slowDown(wait))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, proto.EnrolRequestMaxBytes))
	if err != nil {
		p.refuse(w, badRequest("the request is too large or ended early"))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		p.refuse(w, unavailable())
		return
	}
	a, err := decide(ctx, body)
	if err != nil {
		p.refuse(w, err)
		return
	}
	if err := p.cfg.Answer.After(); err != nil {
		panic(http.ErrAbortHandler) // a test: the answer is lost on the way
	}
	out, err := a.Encode()
	if err != nil {
		p.log.Error("enrolment answer not sent", "facility", a.Facility, "err", err)
		p.refuse(w, unavailable())
		return
	}
	w.Header().Set("Content-Type", proto.EnrolMediaType)
	_, _ = w.Write(out)
}

// refuse answers with a problem. What is not one is logged and not told.
func (p *Provision) refuse(w http.ResponseWriter, err error) {
	prob, ok := errors.AsType[*proto.EnrolProblem](err)
	if !ok {
		p.log.Error("enrolment not decided", "err", err)
		prob = unavailable()
	}
	prob.WallMs = p.cfg.Now().UnixMilli()
	out, err := prob.Encode()
	if err != nil {
		p.log.Error("enrolment problem not sent", "err", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", proto.EnrolMediaType)
	if prob.RetrySeconds > 0 {
		w.Header().Set("Retry-After", strconv.FormatUint(uint64(prob.RetrySeconds), 10))
	}
	w.WriteHeader(status(prob.Code))
	_, _ = w.Write(out)
}

// The rate of each source: an address, or a network of 64 bits with IPv6. A
// whole rack behind one address still enrols within a minute.
const (
	sourceBurst = 30
	sourceEvery = 2 * time.Second
	sourcesMax  = 4096
)

// limiter keeps the rates. When it knows too many sources it forgets all: what
// it guards is the region's time, not the secrets.
type limiter struct {
	now func() time.Time

	mu sync.Mutex
	by map[netip.Prefix]*rate.Limiter
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, by: map[netip.Prefix]*rate.Limiter{}}
}

// allow reports whether a source may ask now, and if not how long it has to
// wait.
func (l *limiter) allow(remote string) (time.Duration, bool) {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return sourceEvery, false
	}
	a := ap.Addr().Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	src, err := a.Prefix(bits)
	if err != nil {
		return sourceEvery, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.by[src]
	if r == nil {
		if len(l.by) >= sourcesMax {
			clear(l.by)
		}
		r = rate.NewLimiter(rate.Every(sourceEvery), sourceBurst)
		l.by[src] = r
	}
	return sourceEvery, r.AllowN(l.now(), 1)
}
