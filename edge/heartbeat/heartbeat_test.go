package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/proto"
)

var quiet = slog.New(slog.DiscardHandler)

func newHeartbeat(t *testing.T, change func(*Config)) *Heartbeat {
	t.Helper()
	dir := t.TempDir()
	cfg := Config{Tenant: "foo", Facility: "la", Enrolment: 2, URL: "tcp://127.0.0.1:1", StateDir: dir, DataDir: dir, Log: quiet}
	if change != nil {
		change(&cfg)
	}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestEachStartIsANewSession(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var last uint64
	for range 3 {
		h := newHeartbeat(t, func(c *Config) { c.StateDir = dir })
		if h.Session() <= last || h.Session()>>32 != 2 {
			t.Errorf("session %x after %x", h.Session(), last)
		}
		last = h.Session()
	}
	// Damage must not take the count back.
	if err := os.WriteFile(filepath.Join(dir, sessionFile), []byte("\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	if h := newHeartbeat(t, func(c *Config) { c.StateDir = dir }); h.Session() <= last {
		t.Errorf("after damage session %x follows %x", h.Session(), last)
	}
	if _, err := New(Config{Tenant: "foo", Facility: "la", URL: "tcp://x:1", StateDir: filepath.Join(dir, "none"), Log: quiet}); err == nil {
		t.Error("a session that cannot be kept was begun")
	}
}

func TestFaultsAndHealthFollowFromTheFacts(t *testing.T) {
	t.Parallel()
	hot := int64(80_000)
	for name, tc := range map[string]struct {
		s      proto.Status
		faults []proto.FaultCode
		health proto.Health
	}{
		"well":           {proto.Status{Database: proto.Database{State: "up", Slot: "active"}}, nil, proto.HealthOK},
		"clock alone":    {proto.Status{Clock: proto.ClockUnsynced}, []proto.FaultCode{proto.FaultClockUnsynced}, proto.HealthOK},
		"hot":            {proto.Status{MilliCelsius: &hot}, []proto.FaultCode{proto.FaultHot}, proto.HealthDegraded},
		"not armed":      {proto.Status{Watchdog: &proto.Watchdog{State: proto.WatchdogUnarmed}}, []proto.FaultCode{proto.FaultWatchdogOff}, proto.HealthOK},
		"armed":          {proto.Status{Watchdog: &proto.Watchdog{State: proto.WatchdogArmed}}, nil, proto.HealthOK},
		"no watchdog":    {proto.Status{Watchdog: &proto.Watchdog{State: proto.WatchdogNone}}, nil, proto.HealthOK},
		"tunnel down":    {proto.Status{Tunnel: proto.Tunnel{State: "down"}}, []proto.FaultCode{proto.FaultTunnelDown}, proto.HealthDegraded},
		"database down":  {proto.Status{Database: proto.Database{State: "down"}}, []proto.FaultCode{proto.FaultDatabaseDown}, proto.HealthFailing},
		"slot lost":      {proto.Status{Database: proto.Database{Slot: "lost"}}, []proto.FaultCode{proto.FaultSlotMissing}, proto.HealthFailing},
		"queue filling":  {proto.Status{Queue: proto.Queue{Bytes: 80, LimitBytes: 100}}, []proto.FaultCode{proto.FaultQueueNearFull}, proto.HealthDegraded},
		"queue full":     {proto.Status{Queue: proto.Queue{Bytes: 100, LimitBytes: 100}}, []proto.FaultCode{proto.FaultQueueFull}, proto.HealthFailing},
		"disk low":       {proto.Status{Disks: []proto.Disk{{Role: "data", TotalBytes: 100 * gib, FreeBytes: 9 * gib}}}, []proto.FaultCode{proto.FaultDataDiskLow}, proto.HealthFailing},
		"big disk":       {proto.Status{Disks: []proto.Disk{{Role: "data", TotalBytes: 1000 * gib, FreeBytes: 90 * gib}}}, nil, proto.HealthOK},
		"no memory":      {proto.Status{Load: proto.Load{MemoryTotalBytes: 1000, MemoryAvailableBytes: 49}}, []proto.FaultCode{proto.FaultMemoryLow}, proto.HealthDegraded},
		"several, twice": {proto.Status{Database: proto.Database{State: "down"}, Tunnel: proto.Tunnel{State: "down"}}, []proto.FaultCode{proto.FaultDatabaseDown, proto.FaultTunnelDown}, proto.HealthFailing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := faults(tc.s, tc.faults) // what others say too is said once
			if !slices.Equal(got, tc.faults) || health(got) != tc.health {
				t.Errorf("faults %v, health %s; want %v, %s", got, health(got), tc.faults, tc.health)
			}
		})
	}
}

func TestOnlyWhatMattersMakesADocument(t *testing.T) {
	t.Parallel()
	temperature := int64(41_000)
	base := proto.Status{
		Tenant: "foo", Facility: "la", Queue: proto.Queue{Bytes: 100, LimitBytes: 1 << 30}, MilliCelsius: &temperature,
		Disks: []proto.Disk{{Role: "state", TotalBytes: 100 * gib, FreeBytes: 52 * gib}}, Database: proto.Database{State: "up", Slot: "active"},
	}
	rough := func(s proto.Status) string {
		b, err := material(s).Encode()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	want := rough(base)
	warmer := temperature + 3000
	for name, change := range map[string]func(*proto.Status){
		"time":        func(s *proto.Status) { s.WallMs, s.MonoMs = 5, 6 },
		"load":        func(s *proto.Status) { s.Load.Load1Milli = 900 },
		"queue grows": func(s *proto.Status) { s.Queue.Bytes, s.Queue.Changes, s.Queue.LastSeq = 4000, 80, 17 },
		"disk fills": func(s *proto.Status) {
			s.Disks = []proto.Disk{{Role: "state", TotalBytes: 100 * gib, FreeBytes: 51 * gib}}
		},
		"warmer":       func(s *proto.Status) { s.MilliCelsius = &warmer },
		"tunnel bytes": func(s *proto.Status) { s.Tunnel.ReceivedBytes = 99 },
	} {
		s := base
		change(&s)
		if rough(s) != want {
			t.Errorf("%s: a new document would be sent", name)
		}
	}
	hotter := temperature + 9000
	for name, change := range map[string]func(*proto.Status){
		"database":    func(s *proto.Status) { s.Database.State = "down" },
		"fault":       func(s *proto.Status) { s.Faults = []proto.FaultCode{proto.FaultHot} },
		"queue fills": func(s *proto.Status) { s.Queue.Bytes = 1 << 28 },
		"hotter":      func(s *proto.Status) { s.MilliCelsius = &hotter },
		"version":     func(s *proto.Status) { s.Versions.Agent = "v2" },
		"epoch":       func(s *proto.Status) { s.Queue.Epoch = 5 },
		"watchdog":    func(s *proto.Status) { s.Watchdog = &proto.Watchdog{State: proto.WatchdogArmed} },
	} {
		s := base
		change(&s)
		if rough(s) == want {
			t.Errorf("%s: no new document would be sent", name)
		}
	}
	if base.Disks[0].FreeBytes != 52*gib || *base.MilliCelsius != 41_000 {
		t.Error("material has changed what it was given")
	}
}

// TestAnUnarmedWatchdogIsToldAndNoneIsNoFault reads trees as sysfs has them:
// the class holds links to the devices.
func TestAnUnarmedWatchdogIsToldAndNoneIsNoFault(t *testing.T) {
	t.Parallel()
	type device map[string]string
	pi := func(state string) device {
		return device{"identity": "Broadcom BCM2835 Watchdog timer\n", "timeout": "15\n", "state": state + "\n"}
	}
	tco := func(state string) device {
		return device{"identity": "iTCO_wdt\n", "timeout": "30\n", "state": state + "\n"}
	}
	silent := device{"identity": "iTCO_wdt\n", "timeout": "30\n"}
	const cannotBeRead = "" // a directory in the file's place
	for name, tc := range map[string]struct {
		devices []device // nil: there is no such class
		ignore  bool
		want    string // in words; "" for not told
		fault   bool
	}{
		"armed":                         {[]device{pi("active")}, false, "armed (Broadcom BCM2835 Watchdog timer, 15 s)", false},
		"not armed":                     {[]device{pi("inactive")}, false, "not armed (Broadcom BCM2835 Watchdog timer, 15 s)", true},
		"not armed, and meant so":       {[]device{pi("inactive")}, true, "not armed (Broadcom BCM2835 Watchdog timer, 15 s)", false},
		"none":                          {[]device{}, false, "none", false},
		"no class":                      {nil, false, "", false},
		"the kernel does not tell":      {[]device{silent}, false, "", false},
		"cannot be read":                {[]device{{"state": cannotBeRead}}, false, "", false},
		"a word of another kernel":      {[]device{pi("dormant")}, false, "", false},
		"the second is armed":           {[]device{tco("inactive"), pi("active")}, false, "armed (Broadcom BCM2835 Watchdog timer, 15 s)", false},
		"none of two is armed":          {[]device{tco("inactive"), pi("inactive")}, false, "not armed (iTCO_wdt, 30 s)", true},
		"one is not, one does not tell": {[]device{pi("inactive"), silent}, false, "", false},
		"one does not tell, one is not": {[]device{silent, pi("inactive")}, false, "", false},
		"without identity and timeout":  {[]device{{"state": "inactive\n"}}, false, "not armed", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			must := func(err error) {
				if err != nil {
					t.Fatal(err)
				}
			}
			class := filepath.Join(root, "sys/class/watchdog")
			if tc.devices != nil {
				must(os.MkdirAll(class, 0o755))
			}
			for i, d := range tc.devices {
				node := fmt.Sprintf("watchdog%d", i)
				dir := filepath.Join(root, "sys/devices/platform/wdt/watchdog", node)
				must(os.MkdirAll(dir, 0o755))
				must(os.Symlink("../../devices/platform/wdt/watchdog/"+node, filepath.Join(class, node)))
				for file, content := range d {
					if content == cannotBeRead {
						must(os.Mkdir(filepath.Join(dir, file), 0o755))
						continue
					}
					must(os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644))
				}
			}
			h := newHeartbeat(t, func(c *Config) { c.IgnoreWatchdog = tc.ignore })
			h.machine = machine{root}
			raw, err := h.Status().Encode()
			must(err)
			s, err := proto.DecodeStatus(raw)
			must(err)
			told := ""
			if s.Watchdog != nil {
				told = s.Watchdog.String()
			}
			if told != tc.want || slices.Contains(s.Faults, proto.FaultWatchdogOff) != tc.fault {
				t.Errorf("told %q with faults %v, want %q, fault %v", told, s.Faults, tc.want, tc.fault)
			}
		})
	}
}

func TestStatusFitsWhateverTheFactsSay(t *testing.T) {
	t.Parallel()
	h := newHeartbeat(t, func(c *Config) {
		c.Facts.Tables = func(context.Context) ([]proto.TableStatus, error) {
			var list []proto.TableStatus
			for i := range 500 {
				list = append(list, proto.TableStatus{Name: fmt.Sprintf("public.table_%d", i), State: "streaming"})
			}
			list[499].Problem, list[499].State = "It has no primary key.", "refused"
			return list, nil
		}
		c.Facts.Database = func(context.Context) (DatabaseFacts, error) { return DatabaseFacts{}, errors.New("connection refused") }
	})
	h.renew(t.Context())
	s := h.Status()
	raw, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := proto.DecodeStatus(raw)
	if err != nil {
		t.Fatal(err)
	}
	if got.Tables[0].Name != "public.table_499" || got.TablesLeftOut == 0 {
		t.Errorf("first table %+v, %d left out; want the one with a problem first", got.Tables[0], got.TablesLeftOut)
	}
	if got.Database.State != "down" || got.Health != proto.HealthFailing || !slices.Contains(got.Faults, proto.FaultDatabaseDown) {
		t.Errorf("database %+v, health %s, faults %v", got.Database, got.Health, got.Faults)
	}
	if got.Load.MemoryTotalBytes == 0 || got.Load.AgentRSSBytes == 0 || len(got.Disks) != 2 || got.Versions.Kernel == "" || got.BootedMs == 0 {
		t.Errorf("the machine said nothing: %+v", got)
	}
}

func TestHangingDatabaseDoesNotHoldTheHeartbeat(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	h := newHeartbeat(t, func(c *Config) {
		c.Facts.Database = func(ctx context.Context) (DatabaseFacts, error) { <-hang; return DatabaseFacts{}, ctx.Err() }
	})
	done := make(chan struct{})
	go func() { defer close(done); h.renew(t.Context()) }()
	began := time.Now()
	if s := h.Status(); s.Database.State != "unknown" {
		t.Errorf("database is %q while nobody knows", s.Database.State)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the status took %s", took)
	}
	close(hang)
	<-done
}

func TestCommandRunsOnceHoweverOftenItComes(t *testing.T) {
	t.Parallel()
	h := newHeartbeat(t, nil)
	ran := 0
	h.Handle("count", func(context.Context, map[string]string) (string, error) { ran++; return fmt.Sprint(ran), nil })
	h.Handle("fail", func(context.Context, map[string]string) (string, error) { return "", errors.New("no") })
	h.Handle("refuse", func(context.Context, map[string]string) (string, error) {
		return "", fmt.Errorf("%w: not now", ErrRefused)
	})
	later := time.Now().Add(time.Hour).UnixMilli()
	cmd := func(n byte, kind string) proto.Command {
		return proto.Command{Tenant: "foo", Facility: "la", ID: proto.CommandID{n}, Kind: kind, ExpiresMs: later}
	}
	for _, tc := range []struct {
		cmd  proto.Command
		want proto.AckResult
		text string
	}{
		{cmd(1, "count"), proto.AckDone, "1"},
		{cmd(1, "count"), proto.AckDone, "1"},
		{cmd(2, "count"), proto.AckDone, "2"},
		{cmd(3, "fail"), proto.AckFailed, "no"},
		{cmd(4, "refuse"), proto.AckRefused, "refused: not now"},
		{cmd(5, "unheard-of"), proto.AckRefused, `this version does not know the command "unheard-of"`},
	} {
		if a := h.commands.once(t.Context(), tc.cmd); a.Result != tc.want || a.Text != tc.text || a.ID != tc.cmd.ID {
			t.Errorf("%s: %s %q, want %s %q", tc.cmd.Kind, a.Result, a.Text, tc.want, tc.text)
		}
	}
	for i := range commandsRemember + 10 {
		c := cmd(9, "count")
		c.ID[1], c.ID[2] = byte(i), byte(i>>8)
		h.commands.once(t.Context(), c)
	}
	if len(h.commands.done) != commandsRemember || len(h.commands.order) != commandsRemember {
		t.Errorf("%d commands are remembered, want %d", len(h.commands.done), commandsRemember)
	}
}

func TestEventsWaitButNotForEver(t *testing.T) {
	t.Parallel()
	h := newHeartbeat(t, nil)
	for i := range eventsMax + 50 {
		h.Event("test", proto.SeverityInfo, fmt.Sprint(i), nil)
	}
	if n := len(h.events.list); n != eventsMax || h.events.list[0].Text != "50" {
		t.Errorf("%d events wait, the first is %q", n, h.events.list[0].Text)
	}
	h.sendEvents(t.Context()) // there is no connection
	if n := len(h.events.list); n != eventsMax {
		t.Errorf("%d events wait after a failed attempt", n)
	}
}

func TestMachineSaysWhatItHas(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for path, content := range map[string]string{
		"proc/sys/kernel/random/boot_id":       "1f2e3d4c-5b6a-7988-97a6-b5c4d3e2f100\n",
		"proc/uptime":                          "12.34 99.9\n",
		"proc/loadavg":                         "1.25 0.5 0.1 1/99 1234\n",
		"proc/meminfo":                         "MemTotal:       4000000 kB\nMemFree: 1 kB\nMemAvailable:   2000000 kB\n",
		"proc/self/statm":                      "5000 1000 1 1 0 1 0\n",
		"proc/device-tree/model":               "Raspberry Pi 4 Model B Rev 1.5\x00",
		"sys/class/thermal/thermal_zone0/temp": "48200\n",
		"sys/class/thermal/thermal_zone1/temp": "61250\n",
		"sys/class/thermal/thermal_zone2/temp": "-273000\n",
		"sys/class/thermal/thermal_zone3/temp": "oops\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := machine{root}
	if id, err := m.bootID(); err != nil || id.String() != "1f2e3d4c-5b6a-7988-97a6-b5c4d3e2f100" {
		t.Errorf("boot id %s, %v", id, err)
	}
	if d, ok := m.milliCelsius(); !ok || d != 61_250 {
		t.Errorf("temperature %d, %v", d, ok)
	}
	l := m.load()
	if m.uptime() != 12340*time.Millisecond || l.Load1Milli != 1250 || l.MemoryTotalBytes != 4_000_000<<10 ||
		l.MemoryAvailableBytes != 2_000_000<<10 || l.AgentRSSBytes != 1000*uint64(os.Getpagesize()) || m.hardware() != "Raspberry Pi 4 Model B Rev 1.5" {
		t.Errorf("uptime %s, load %+v, hardware %q", m.uptime(), l, m.hardware())
	}
	nothing := machine{t.TempDir()}
	if _, ok := nothing.milliCelsius(); ok || nothing.uptime() != 0 || nothing.load().MemoryTotalBytes != 0 || nothing.hardware() == "" {
		t.Error("a machine that says nothing has facts")
	}
	if _, err := nothing.bootID(); err == nil {
		t.Error("a machine that says nothing has a boot id")
	}
}
