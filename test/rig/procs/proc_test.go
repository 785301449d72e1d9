package procs_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/pgcluster"
	"github.com/agogsaas/holdfast/internal/pgtest"
	"github.com/agogsaas/holdfast/test/rig/procs"
)

// The tests run copies of themselves.
func TestMain(m *testing.M) {
	if addr := os.Getenv("PROCS_SERVE"); addr != "" {
		fmt.Println("serving", addr)
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		go http.ListenAndServe(addr, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		<-stop
		fmt.Println("good bye")
		os.Exit(3)
	}
	os.Exit(m.Run())
}

func server(t *testing.T) *procs.Proc {
	t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", pgtest.Port(t))
	return procs.Start(t, procs.Spec{
		Name: "server", Path: os.Args[0], Env: []string{"PROCS_SERVE=" + addr}, Ready: "http://" + addr + "/readyz",
	})
}

func TestAProgramIsKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	p := server(t)
	first := p.PID()
	if p.RSS(t) < 1<<20 {
		t.Errorf("memory %d", p.RSS(t))
	}
	p.Kill9(t)
	if p.Running() {
		t.Fatal("it runs although it was killed")
	}
	p.Start(t)
	if p.PID() == first {
		t.Fatal("it was not started again")
	}
	if n := strings.Count(p.Output(), "serving"); n != 2 {
		t.Errorf("output of %d starts, want 2: %s", n, p.Output())
	}
}

func TestAStopIsOrderly(t *testing.T) {
	t.Parallel()
	p := server(t)
	p.Stop(t)
	if err, ok := p.Wait(t).(*exec.ExitError); !ok || err.ExitCode() != 3 || !strings.Contains(p.Output(), "good bye") {
		t.Fatalf("ended with %v: %s", p.Wait(t), p.Output())
	}
}

// TestNoProcessOutlivesTheTests kills a second copy of this test binary while
// it runs a program.
func TestNoProcessOutlivesTheTests(t *testing.T) {
	if os.Getenv("PROCS_VICTIM") != "" {
		p := procs.Start(t, procs.Spec{Name: "sleeper", Path: "/bin/sleep", Args: []string{"1000"}})
		fmt.Println("pid", p.PID())
		<-t.Context().Done() // until killed
	}
	t.Parallel()
	victim := exec.Command(os.Args[0], "-test.run=^TestNoProcessOutlivesTheTests$")
	victim.Env = append(os.Environ(), "PROCS_VICTIM=1")
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscanf(out, "pid %d\n", &pid); err != nil {
		t.Fatal(err)
	}
	victim.Process.Kill()
	victim.Wait() // killed: the error is expected
	for deadline := time.Now().Add(2 * time.Minute); !pgcluster.Gone(pid); {
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there", pid)
		}
		<-time.After(5 * time.Millisecond)
	}
}
