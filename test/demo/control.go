package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/agogsaas/holdfast/test/rig/relay"
)

// status is what the control socket answers; holdfastctl demo reads it.
type status struct {
	PID        int              `json:"pid"`
	Ready      bool             `json:"ready"`
	Facilities []facilityStatus `json:"facilities"`
}

type facilityStatus struct {
	ID      string     `json:"id"`
	Cut     bool       `json:"cut"`
	CutAt   *time.Time `json:"cut_at,omitempty"`
	Address string     `json:"address"`
	Actions int64      `json:"actions"`
	Failed  int64      `json:"failed"`
	Dropped int64      `json:"dropped"`
}

// control serves the socket through which links are cut and restored. Only
// this user can open it.
//
//	GET  /status
//	POST /cut/{facility}
//	POST /restore/{facility}
//	POST /conflict/{facility}
func (d *demo) control() error {
	path := d.place.file("control.sock")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open the control socket: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("open the control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(fmt.Errorf("close the control socket to others: %w", err), ln.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { answer(w, d.status()) })
	mux.HandleFunc("POST /cut/{facility}", func(w http.ResponseWriter, r *http.Request) { d.switchLink(w, r, true) })
	mux.HandleFunc("POST /restore/{facility}", func(w http.ResponseWriter, r *http.Request) { d.switchLink(w, r, false) })
	mux.HandleFunc("POST /conflict/{facility}", d.conflictAt)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	d.parts.Close("control socket", func() error {
		err := srv.Close()
		d.serving.Wait()
		return err
	})
	d.serving.Go(func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			d.log.Error("the control socket ended", "err", err)
		}
	})
	return nil
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the reader left: nothing to do
}

func (d *demo) status() status {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := status{PID: os.Getpid(), Ready: d.ready, Facilities: []facilityStatus{}}
	for _, p := range plants {
		if d.edges[p.ID] != nil {
			s.Facilities = append(s.Facilities, d.facilityLocked(p))
		}
	}
	return s
}

func (d *demo) facilityLocked(p plant) facilityStatus {
	e := d.edges[p.ID]
	f := facilityStatus{ID: p.ID, Address: p.URL(), Cut: e.Tunnel.IsCut() || e.MQTT.IsCut()}
	if at, ok := d.cutAt[p.ID]; ok {
		f.CutAt = &at
	}
	if s := d.shifts[p.ID]; s != nil {
		f.Actions, f.Failed = s.Actions.Load(), s.Refused.Load()
	}
	for _, r := range []*relay.Relay{e.Tunnel, e.MQTT} {
		f.Dropped += int64(r.Stats(relay.Up).Dropped + r.Stats(relay.Down).Dropped)
	}
	return f
}

// switchLink cuts or restores both ways of a facility. Doing it twice does no harm.
func (d *demo) switchLink(w http.ResponseWriter, r *http.Request, cut bool) {
	id := r.PathValue("facility")
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.edges[id]
	if e == nil {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, "the demo has no facility %q", id)
		return
	}
	_, was := d.cutAt[id]
	switch {
	case cut:
		e.Cut()
		if !was {
			d.cutAt[id] = time.Now()
		}
	default:
		e.Restore()
		delete(d.cutAt, id)
	}
	for _, p := range plants {
		if p.ID == id {
			answer(w, d.facilityLocked(p))
		}
	}
}
