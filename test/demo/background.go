package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/pgcluster"
)

const (
	upWithin   = 5 * time.Minute // a first start makes three database clusters
	downWithin = 90 * time.Second
	lookEvery  = 100 * time.Millisecond
	// orphanGrace is how long a program without a supervisor may take to stop.
	orphanGrace = 25 * time.Second
)

// up starts the demo as a process of its own and waits until it is ready.
func up(ctx context.Context, p place, o options, out io.Writer) error {
	p, err := p.prepare()
	if err != nil {
		return err
	}
	if pid := p.holder(); pid != 0 {
		fmt.Fprintf(out, "The demo runs already, as process %d.\n\n", pid)
		summary(out, p)
		return nil
	}
	logFile, err := os.OpenFile(p.file("demo.log"), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open the demo's log: %w", err)
	}
	defer logFile.Close()
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	args := []string{"run", "--checkout", p.Checkout, "--log-level", o.logLevel}
	if o.noShift {
		args = append(args, "--no-shift")
	}
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it must outlive this terminal
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the demo: %w", err)
	}
	return follow(ctx, p, cmd, logFile, out)
}

// follow shows the start's progress until it is ready or has failed. When
// this process is interrupted the demo is stopped again.
func follow(ctx context.Context, p place, cmd *exec.Cmd, logFile *os.File, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, upWithin)
	defer cancel()
	var shown int64
	show := func() {
		raw, err := io.ReadAll(io.NewSectionReader(logFile, shown, 1<<20))
		if err == nil {
			shown += int64(len(raw))
			_, _ = out.Write(raw)
		}
	}
	for {
		s, err := askStatus(ctx, p)
		if err == nil && s.Ready && s.PID == cmd.Process.Pid {
			show()
			fmt.Fprintln(out, "It runs in the background; stop it with make demo-down.")
			return nil
		}
		if pgcluster.Gone(cmd.Process.Pid) {
			show()
			return fmt.Errorf("the demo did not start: %w", cmd.Wait())
		}
		select {
		case <-ctx.Done():
			show()
			_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
			_ = cmd.Wait()                          // how it ended is in its log
			return fmt.Errorf("the demo was not ready in time: %w", context.Cause(ctx))
		case <-time.After(lookEvery):
			show()
		}
	}
}

func askStatus(ctx context.Context, p place) (status, error) {
	var s status
	hc := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", p.file("control.sock"))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://demo/status", nil)
	if err != nil {
		return s, err
	}
	resp, err := hc.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&s)
}

func showStatus(ctx context.Context, p place, out io.Writer) error {
	s, err := askStatus(ctx, p)
	if err != nil {
		return hint.Wrap(errors.New("the demo does not run"), "Start it with make demo or make demo-up.")
	}
	fmt.Fprintf(out, "The demo runs as process %d (ready: %t).\n", s.PID, s.Ready)
	for _, f := range s.Facilities {
		fmt.Fprintf(out, "  %-10s %s  cut: %-5t  actions: %d\n", f.ID, f.Address, f.Cut, f.Actions)
	}
	return nil
}

// down stops the demo, and whatever an earlier crash has left running.
func down(ctx context.Context, p place, out io.Writer) error {
	if p.Data == "" {
		fmt.Fprintln(out, "There is no demo here.")
		return nil
	}
	if pid := p.holder(); pid != 0 {
		fmt.Fprintf(out, "Stopping the demo (process %d) …\n", pid)
		if err := sendTo(pid, syscall.SIGTERM); err != nil {
			return err
		}
		step, done := context.WithTimeout(ctx, downWithin)
		err := awaitGone(step, pid)
		done()
		if err != nil {
			fmt.Fprintf(out, "It does not stop by itself (%v); its programs are stopped one by one.\n", err)
			if err := sendTo(pid, syscall.SIGKILL); err != nil {
				return err
			}
		}
	}
	if err := sweep(ctx, p, out); err != nil {
		return err
	}
	fmt.Fprintln(out, "The demo is stopped. Its data stays in "+p.Demo+": make demo-up goes on with it, make demo-clean removes it.")
	return nil
}

// sweep stops programs of this demo that nobody supervises any more: what a
// kill -9 of the supervisor leaves. They are known by their command line or
// working directory, which name this demo's folder and no other.
func sweep(ctx context.Context, p place, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, downWithin)
	defer cancel()
	for {
		left := leftovers(p)
		if len(left) == 0 {
			return nil
		}
		for _, pid := range left {
			fmt.Fprintf(out, "Stopping %s (process %d), left from an earlier run …\n", nameOf(pid), pid)
			// PostgreSQL would wait for its clients after SIGTERM.
			sig := syscall.SIGTERM
			if nameOf(pid) == "postgres" {
				sig = syscall.SIGINT
			}
			if err := sendTo(pid, sig); err != nil {
				return err
			}
		}
		step, done := context.WithTimeout(ctx, orphanGrace)
		err := awaitGone(step, left...)
		done()
		if err == nil {
			continue
		}
		for _, pid := range left {
			if err := sendTo(pid, syscall.SIGKILL); err != nil {
				return err
			}
		}
		if err := awaitGone(ctx, left...); err != nil {
			return fmt.Errorf("stop what an earlier run left: %w", err)
		}
	}
}

func sendTo(pid int, sig syscall.Signal) error {
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return hint.Wrap(fmt.Errorf("stop process %d: %w", pid, err), "Stop it as the user who started it.")
	}
	return nil
}

// leftovers are the demo's programs, the agents and the region first: they
// stop their PostgreSQL and broker themselves.
func leftovers(p place) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil || p.Data == "" {
		return nil
	}
	var daemons, servers []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || pgcluster.Gone(pid) {
			continue
		}
		switch nameOf(pid) {
		case "holdfast-cloud", "holdfast-edge", "mosquitto":
			raw, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
			if err != nil || !slices.ContainsFunc(bytes.Split(raw, []byte{0}), func(arg []byte) bool {
				return strings.HasPrefix(string(arg), p.Data+"/")
			}) {
				continue
			}
			if nameOf(pid) == "mosquitto" {
				servers = append(servers, pid)
			} else {
				daemons = append(daemons, pid)
			}
		case "postgres":
			dir, err := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
			if err != nil || !strings.HasPrefix(dir, p.Data+"/") {
				continue
			}
			if main, err := pgcluster.ReadPostmasterPID(dir); err == nil && main == pid {
				servers = append(servers, pid)
			}
		}
	}
	if len(daemons) > 0 {
		return daemons
	}
	return servers
}

func awaitGone(ctx context.Context, pids ...int) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for _, pid := range pids {
		for !pgcluster.Gone(pid) {
			select {
			case <-ctx.Done():
				return fmt.Errorf("process %d goes on: %w", pid, context.Cause(ctx))
			case <-tick.C:
			}
		}
	}
	return nil
}
