package relay

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Control lets another process cut and restore named groups of relays, such
// as both paths of one facility. Serve it on a unix socket or loopback only:
// it asks nobody who they are.
//
//	GET  /              {"la": {"cut": false}, …}
//	POST /la/cut        ?direction=up or down for one only
//	POST /la/restore    the same
//	POST /la/faults     ?loss=0.02&delay=80ms&jitter=20ms&reorder=0.01&bytes_per_second=64000
//	POST /la/reset
func Control(groups map[string][]*Relay) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		state := map[string]any{}
		for name, relays := range groups {
			state[name] = map[string]bool{"cut": slices.ContainsFunc(relays, (*Relay).IsCut)}
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(state) // the reader has gone if it fails
	})
	mux.HandleFunc("POST /{name}/{verb}", func(w http.ResponseWriter, q *http.Request) {
		relays, ok := groups[q.PathValue("name")]
		if !ok {
			known := slices.Sorted(maps.Keys(groups))
			http.Error(w, fmt.Sprintf("no link named %q; there are %v", q.PathValue("name"), known), http.StatusNotFound)
			return
		}
		if err := act(relays, q); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

func act(relays []*Relay, q *http.Request) error {
	directions, err := directionsOf(q.FormValue("direction"))
	if err != nil {
		return err
	}
	var faults Faults
	if q.PathValue("verb") == "faults" {
		if faults, err = faultsOf(q); err != nil {
			return err
		}
	}
	for _, r := range relays {
		switch q.PathValue("verb") {
		case "cut":
			r.Cut(directions...)
		case "restore":
			r.Restore(directions...)
		case "reset":
			r.Reset()
		case "faults":
			if err := r.SetFaults(faults, directions...); err != nil {
				return err
			}
		default:
			return fmt.Errorf("verb %q is not one of cut, restore, faults, reset", q.PathValue("verb"))
		}
	}
	return nil
}

func directionsOf(s string) ([]Direction, error) {
	switch s {
	case "":
		return nil, nil
	case "up":
		return []Direction{Up}, nil
	case "down":
		return []Direction{Down}, nil
	}
	return nil, fmt.Errorf("direction %q is neither up nor down", s)
}

func faultsOf(q *http.Request) (Faults, error) {
	var f Faults
	var errs []error
	number := func(key string, into *float64) {
		if s := q.FormValue(key); s != "" {
			v, err := strconv.ParseFloat(s, 64)
			*into, errs = v, append(errs, err)
		}
	}
	span := func(key string, into *time.Duration) {
		if s := q.FormValue(key); s != "" {
			v, err := time.ParseDuration(s)
			*into, errs = v, append(errs, err)
		}
	}
	number("loss", &f.Loss)
	number("reorder", &f.Reorder)
	span("delay", &f.Delay)
	span("jitter", &f.Jitter)
	if s := q.FormValue("bytes_per_second"); s != "" {
		v, err := strconv.ParseInt(s, 10, 64)
		f.BytesPerSecond, errs = v, append(errs, err)
	}
	return f, errors.Join(errs...)
}
