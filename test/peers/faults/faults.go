// Package faults is what a stand-in for a provider does wrong, one request
// after the other, in the order in which a test asked for it.
//
// In:  tests and the demo, which ask for faults.
// Out: the stand-ins in test/peers, which do them.
package faults

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// HTTP is one request that goes wrong. The zero value is one that goes well.
type HTTP struct {
	Status     int           // answered instead of the right one
	RetryAfter time.Duration // its header
	Body       string
	Hang       bool // there is no answer until the caller gives up
	Cut        bool // the connection breaks before the answer
	Lost       bool // it is answered as ever, and nothing comes of it
	Took       bool // it takes effect all the same
}

// Script is the faults to come. Its methods may be called from several goroutines.
type Script struct {
	mu   sync.Mutex
	next []HTTP
}

// Next adds faults, one for each of the requests to come.
func (s *Script) Next(f ...HTTP) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = append(s.next, f...)
}

// Take returns what is to go wrong with the request at hand; the zero value for nothing.
func (s *Script) Take() HTTP {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.next) == 0 {
		return HTTP{}
	}
	f := s.next[0]
	s.next = s.next[1:]
	return f
}

// Takes reports whether the request takes effect.
func (f HTTP) Takes() bool { return f.Took || f.Status == 0 && !f.Hang && !f.Cut && !f.Lost }

// Answer gives the wrong answer. It returns false when the right one is to be given.
func (f HTTP) Answer(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case f.Hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case f.Cut:
		panic(http.ErrAbortHandler)
	case f.Status == 0:
		return false
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter/time.Second)))
	}
	w.WriteHeader(f.Status)
	_, _ = w.Write([]byte(f.Body)) // the caller may be gone
	return true
}
