package main

import (
	"testing"

	"github.com/agogsaas/holdfast/cloud/api/apitest"
)

func TestALimitIsSetShownAndLifted(t *testing.T) {
	t.Parallel()
	r := apitest.Start(t)
	s := signedIn(t, r.URL, r.Operator.Token)
	s.ok("facility", "add", "la", "--time-zone", "America/Los_Angeles")
	wants(t, s.ok("facility", "limit", "la"), "la: no limit")
	wants(t, s.ok("facility", "limit", "la", "--kbps", "500", "--window", "00:00-24:00=100"), "100 KB/s now (00:00-24:00=100; else 500 KB/s)")
	if now, _ := r.Limits.Now("la"); now != 100_000 {
		t.Errorf("%d bytes per second are let through", now)
	}
	wants(t, s.ok("facility", "show", "la"), "Limit", "100 KB/s now")
	wants(t, s.ok("sync", "status", "la"), "Limit", "100 KB/s now")
	wants(t, s.ok("facility", "limit", "la", "--kbps", "500"), "la: 500 KB/s now\n")
	wants(t, s.ok("facility", "limit", "la", "--none"), "la: no limit")
	if now, _ := r.Limits.Now("la"); now != 0 {
		t.Errorf("%d bytes per second are let through", now)
	}

	for _, args := range [][]string{
		{"--kbps", "9"}, {"--kbps", "-1"}, {"--window", "Montag 06:00-22:00=100"}, {"--none", "--kbps", "500"},
	} {
		if got := s.run(append([]string{"facility", "limit", "la"}, args...)...); got.code == exitOK || got.err == "" {
			t.Errorf("%v: exit %d %s", args, got.code, got.out)
		}
	}
	viewer := signedIn(t, r.URL, r.Viewer.Token)
	if got := viewer.run("facility", "limit", "la", "--none"); got.code == exitOK {
		t.Error("a viewer lifted a limit")
	}
	if got := s.run("facility", "limit", "nowhere", "--kbps", "500"); got.code == exitOK {
		t.Error("a facility that does not exist has a limit")
	}
}
