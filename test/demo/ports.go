package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/agogsaas/holdfast/internal/hint"
)

// The demo's addresses, which people's scripts hold on to.
const (
	regionHTTP      = 8080
	regionPostgres  = 6400
	regionEnrol     = 8443
	regionMQTT      = 8883
	regionMQTTPlain = 1883
	regionWireGuard = 51820
	peoplePage      = 4020
	peopleMail      = 4025
)

// plant is one facility of the demo.
type plant struct {
	ID, Name, Zone string
	HTTP, Postgres int
}

// shanghai (4012, 6412) has its place kept; a later demo moves it in.
var plants = []plant{
	{ID: "la", Name: "Los Angeles", Zone: "America/Los_Angeles", HTTP: 4010, Postgres: 6410},
	{ID: "frankfurt", Name: "Frankfurt", Zone: "Europe/Berlin", HTTP: 4011, Postgres: 6411},
}

func (p plant) URL() string { return "http://127.0.0.1:" + strconv.Itoa(p.HTTP) }

func pageURL() string { return "http://127.0.0.1:" + strconv.Itoa(peoplePage) }

func regionURL() string { return "http://127.0.0.1:" + strconv.Itoa(regionHTTP) }

type door struct {
	network string
	port    int
	what    string
}

func doors() []door {
	list := []door{
		{"tcp", regionHTTP, "the region's dashboard and API"},
		{"tcp", regionPostgres, "the region's PostgreSQL"},
		{"tcp", regionEnrol, "enrolment"},
		{"tcp", regionMQTT, "MQTT over TLS"},
		{"tcp", regionMQTTPlain, "MQTT"},
		{"udp", regionWireGuard, "WireGuard"},
		{"tcp", peoplePage, "the page of phones and chats"},
		{"tcp", peopleMail, "the mail server of that page"},
	}
	for _, p := range plants {
		list = append(list, door{"tcp", p.HTTP, p.ID + "'s pages"}, door{"tcp", p.Postgres, p.ID + "'s PostgreSQL"})
	}
	return list
}

// checkPorts says all ports that are taken, and by whom, at once.
func checkPorts() error {
	var taken []string
	var owners []int
	for _, d := range doors() {
		if free(d) {
			continue
		}
		line := fmt.Sprintf("%s port %d (%s)", d.network, d.port, d.what)
		if pid, name := ownerOf(d); pid != 0 {
			line += fmt.Sprintf(" by process %d (%s)", pid, strings.TrimSpace(name+" "+homeOf(pid)))
			owners = append(owners, pid)
		}
		taken = append(taken, line)
	}
	if len(taken) == 0 {
		return nil
	}
	advice := "Stop what uses them. For a service of the system: systemctl stop NAME; for a demo that crashed: make demo-down."
	if len(owners) == 0 {
		advice += " Run ss -ltnup as root to see who it is."
	}
	return hint.Wrap(errors.New("the demo needs ports that are taken:\n  "+strings.Join(taken, "\n  ")), "%s", advice)
}

func free(d door) bool {
	addr := "127.0.0.1:" + strconv.Itoa(d.port)
	if d.network == "udp" {
		c, err := net.ListenPacket("udp", ":"+strconv.Itoa(d.port))
		if err != nil {
			return false
		}
		return c.Close() == nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// ownerOf finds the process behind a port, where the kernel lets us see it.
func ownerOf(d door) (pid int, name string) {
	for _, table := range []string{"/proc/net/" + d.network, "/proc/net/" + d.network + "6"} {
		raw, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(raw)) {
			f := strings.Fields(line)
			if len(f) < 10 || !strings.HasSuffix(f[1], fmt.Sprintf(":%04X", d.port)) {
				continue
			}
			if d.network == "tcp" && f[3] != "0A" { // LISTEN
				continue
			}
			if pid := socketOwner(f[9]); pid != 0 {
				return pid, nameOf(pid)
			}
		}
	}
	return 0, ""
}

func socketOwner(inode string) int {
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && to == "socket:["+inode+"]" {
			pid, _ := strconv.Atoi(strings.Split(fd, "/")[2]) // digits, by the pattern
			return pid
		}
	}
	return 0
}

func nameOf(pid int) string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(raw))
}

// homeOf says which folder a program works in, when it is one of a demo's:
// that tells in which checkout to stop it.
func homeOf(pid int) string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		dir = ""
	}
	for arg := range strings.SplitSeq(dir+"\x00"+string(raw), "\x00") {
		if i := strings.Index(arg, "/.demo/"); i > 0 {
			return "of the demo in " + arg[:i]
		}
		if i := strings.Index(arg, "/holdfast-demo-"); i > 0 {
			return "of a demo with its data in " + "/var/tmp"
		}
	}
	return ""
}
