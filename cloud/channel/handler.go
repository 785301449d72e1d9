package channel

import (
	"log/slog"
	"net/http"
)

const (
	// hooksPath is what providers call, ackPath what people open. Both work
	// without sign-in: the first are signed by the provider, the second by us.
	hooksPath   = "/hooks/"
	ackPath     = "/ack/"
	hooksTwilio = hooksPath + "twilio/"
)

// HandlerConfig is what comes back, and who takes it.
type HandlerConfig struct {
	Inbox   Inbox
	Links   *Links
	Support string  // whom people call for help, in words
	Twilio  *Twilio // nil: there is none
	// Hooks are other providers', by what follows /hooks/, such as slack.
	Hooks map[string]http.Handler
	Log   *slog.Logger
}

// Handler serves /hooks/ and /ack/. Neither needs a session.
func Handler(c HandlerConfig) http.Handler {
	mux := http.NewServeMux()
	if c.Twilio != nil {
		h := newTwilioHooks(c.Twilio, c.Inbox, c.Log)
		h.mount(mux)
	}
	for name, h := range c.Hooks {
		mux.Handle(hooksPath+name, h)
	}
	p := ackPages{c}
	mux.HandleFunc("GET "+ackPath+"{token}", p.show)
	mux.HandleFunc("POST "+ackPath+"{token}", p.take)
	mux.HandleFunc("GET "+ackPath+"page.css", p.style)
	return mux
}
