package heartbeat

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/agogsaas/holdfast/proto"
)

// machine reads what the kernel says. Root is "/" but in tests. What cannot be
// read is zero: a box that says little is better than one that says nothing.
type machine struct{ root string }

const factMaxBytes = 64 << 10

func (m machine) read(path string) string {
	f, err := os.Open(filepath.Join(m.root, path))
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	buf := make([]byte, factMaxBytes)
	n, _ := f.Read(buf)
	return strings.TrimSpace(string(buf[:n]))
}

func (m machine) bootID() (proto.BootID, error) {
	return proto.ParseBootID(m.read("proc/sys/kernel/random/boot_id"))
}

// uptime is how long ago the machine was booted, sleep included.
func (m machine) uptime() time.Duration {
	first, _, _ := strings.Cut(m.read("proc/uptime"), " ")
	seconds, err := strconv.ParseFloat(first, 64)
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}

func (m machine) kernel() string { return m.read("proc/sys/kernel/osrelease") }

// hardware is the board's or the machine's own name.
func (m machine) hardware() string {
	model := strings.TrimRight(m.read("proc/device-tree/model"), "\x00")
	if model == "" {
		model = strings.TrimSpace(m.read("sys/class/dmi/id/sys_vendor") + " " + m.read("sys/class/dmi/id/product_name"))
	}
	if model == "" {
		model = runtime.GOARCH
	}
	return model
}

// milliCelsius is the hottest sensor that makes sense; false when there is none.
func (m machine) milliCelsius() (hottest int64, ok bool) {
	zones, _ := filepath.Glob(filepath.Join(m.root, "sys/class/thermal/thermal_zone*/temp"))
	for _, zone := range zones {
		rel, err := filepath.Rel(m.root, zone)
		if err != nil {
			continue
		}
		t, err := strconv.ParseInt(m.read(rel), 10, 64)
		const coldest, hottestPossible = -50_000, 150_000 // broken sensors say absurd things
		if err != nil || t < coldest || t > hottestPossible || t == 0 {
			continue
		}
		if !ok || t > hottest {
			hottest, ok = t, true
		}
	}
	return hottest, ok
}

// watchdog is the machine's hardware watchdog, armed if one of several is. Nil
// is not known: no sysfs, or a kernel that does not tell (CONFIG_WATCHDOG_SYSFS).
// Looking here neither arms nor feeds it; opening /dev/watchdog would.
func (m machine) watchdog() *proto.Watchdog {
	const class = "sys/class/watchdog"
	devices, err := os.ReadDir(filepath.Join(m.root, class))
	if err != nil {
		return nil
	}
	found := &proto.Watchdog{State: proto.WatchdogNone}
	for _, d := range devices {
		tell := func(what string) string { return m.read(filepath.Join(class, d.Name(), what)) }
		w := &proto.Watchdog{Name: tell("identity")}
		w.Seconds, _ = strconv.ParseUint(tell("timeout"), 10, 32)
		switch tell("state") {
		case "active":
			w.State = proto.WatchdogArmed
			return w
		case "inactive": // also while only the kernel feeds it, as it does what the boot loader started
			w.State = proto.WatchdogUnarmed
			if found != nil && found.State == proto.WatchdogNone {
				found = w
			}
		default:
			found = nil // it may be the one that is armed
		}
	}
	return found
}

func (m machine) load() proto.Load {
	l := proto.Load{CPUs: uint(runtime.NumCPU())}
	first, _, _ := strings.Cut(m.read("proc/loadavg"), " ")
	if v, err := strconv.ParseFloat(first, 64); err == nil && v >= 0 {
		l.Load1Milli = uint64(v * 1000)
	}
	for line := range strings.Lines(m.read("proc/meminfo")) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, err := strconv.ParseUint(f[1], 10, 54)
		if err != nil {
			continue
		}
		switch f[0] {
		case "MemTotal:":
			l.MemoryTotalBytes = kib << 10
		case "MemAvailable:":
			l.MemoryAvailableBytes = kib << 10
		}
	}
	if f := strings.Fields(m.read("proc/self/statm")); len(f) > 1 {
		if pages, err := strconv.ParseUint(f[1], 10, 40); err == nil {
			l.AgentRSSBytes = pages * uint64(os.Getpagesize())
		}
	}
	return l
}

// disk is the file system that holds dir.
func disk(role, dir string) (proto.Disk, bool) {
	var st syscall.Statfs_t
	if dir == "" || syscall.Statfs(dir, &st) != nil || st.Bsize <= 0 {
		return proto.Disk{}, false
	}
	size := uint64(st.Bsize)
	return proto.Disk{Role: role, TotalBytes: st.Blocks * size, FreeBytes: st.Bavail * size}, true
}

// clock asks the kernel whether the wall clock is kept in step.
func clock() proto.ClockQuality {
	var t syscall.Timex
	state, err := syscall.Adjtimex(&t)
	const timeError = 5 // TIME_ERROR: not synchronised
	switch {
	case err != nil:
		return proto.ClockUnknown
	case state == timeError:
		return proto.ClockUnsynced
	}
	return proto.ClockSynced
}
