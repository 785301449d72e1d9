package fault

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// Env is the environment variable that makes a real process kill itself at a
// point, as kill -9 or a power cut would. It is read once, at start. It holds
// one or more, separated by commas, of
//
//	name=crash:N        before the N-th effect of the points of that name
//	name=crash-after:N  after it
const Env = "HOLDFAST_FAULT"

const (
	crashBefore = "crash"
	crashAfter  = "crash-after"
)

// crashes maps "name=kind" to the passes left. It is written in init only.
var crashes map[string]*atomic.Int64

func init() {
	plan := os.Getenv(Env)
	if plan == "" {
		return
	}
	var err error
	if crashes, err = parse(plan); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", Env, err)
		os.Exit(2)
	}
	armed.Add(1)
	fmt.Fprintf(os.Stderr, "%s is set: this process will kill itself (%s)\n", Env, plan)
}

func parse(plan string) (map[string]*atomic.Int64, error) {
	m := make(map[string]*atomic.Int64)
	for part := range strings.SplitSeq(plan, ",") {
		key, count, _ := strings.Cut(part, ":")
		name, kind, _ := strings.Cut(key, "=")
		n, err := strconv.ParseInt(count, 10, 32)
		if name == "" || kind != crashBefore && kind != crashAfter || err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not of the form name=crash:N or name=crash-after:N", part)
		}
		m[key] = new(atomic.Int64)
		m[key].Store(n)
	}
	return m, nil
}

func crash(name, kind string) {
	left, ok := crashes[name+"="+kind]
	if !ok || left.Add(-1) != 0 {
		return
	}
	// SIGKILL rather than os.Exit: no deferred call may run, as in a power cut.
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way; take no further step
}
