package enrol

import (
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/agogsaas/holdfast/proto"
)

// hardware is what the box can see of itself. What it cannot see stays empty.
func hardware() proto.Hardware {
	h := proto.Hardware{
		Model:  firstText("/proc/device-tree/model", "/sys/class/dmi/id/product_name"),
		Serial: firstText("/proc/device-tree/serial-number", "/sys/class/dmi/id/product_serial"),
		Kernel: firstText("/proc/sys/kernel/osrelease"),
		Arch:   runtime.GOARCH,
		OS:     osName(),
		CPUs:   uint16(min(runtime.NumCPU(), 1<<16-1)),
	}
	h.HostName, _ = os.Hostname()
	for line := range strings.Lines(readText("/proc/meminfo")) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			kib, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			h.MemoryBytes = kib << 10
		}
	}
	return h
}

func osName() string {
	for line := range strings.Lines(readText("/etc/os-release")) {
		if rest, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(rest), `"`)
		}
	}
	return runtime.GOOS
}

func firstText(paths ...string) string {
	for _, p := range paths {
		if s := strings.Trim(readText(p), " \n\x00"); s != "" {
			return s
		}
	}
	return ""
}

// readText is the beginning of a file, empty if it cannot be read.
func readText(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return ""
	}
	return string(b)
}
