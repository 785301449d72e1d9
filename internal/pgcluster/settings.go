package pgcluster

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Profile names a class of hardware that a server is sized for.
type Profile string

// The hardware profiles.
const (
	Pi4   Profile = "pi4"    // Raspberry Pi 4, 4 GB, SD card or USB disk
	NUC   Profile = "nuc"    // small PC, 8 to 16 GB, SSD
	Large Profile = "server" // 32 GB and more, SSD or NVMe
	Auto  Profile = "auto"   // by this machine's memory
)

const (
	kib = int64(1) << 10
	mib = kib << 10
	gib = mib << 10
)

func (p Profile) known() bool { return p == Pi4 || p == NUC || p == Large || p == Auto }

// resolve turns auto into a profile. A box shares its memory with the agent
// and the page cache, so the bounds are generous.
func (p Profile) resolve(memory int64) Profile {
	switch {
	case p != Auto:
		return p
	case memory < 6*gib:
		return Pi4
	case memory < 24*gib:
		return NUC
	}
	return Large
}

// sizes are what differs between the profiles. max_wal_size is modest where
// the disk is a card: it is what stays in pg_wal between checkpoints, whether
// a slot needs it or not.
var sizes = map[Profile]map[string]string{
	Pi4: {
		"shared_buffers": "256MB", "effective_cache_size": "1536MB", "work_mem": "4MB",
		"maintenance_work_mem": "64MB", "logical_decoding_work_mem": "32MB", "max_connections": "60",
		"min_wal_size": "48MB", "max_wal_size": "256MB", "checkpoint_timeout": "15min",
		"max_wal_senders": "8", "max_replication_slots": "8", "effective_io_concurrency": "4",
		"autovacuum_max_workers": "2", "max_worker_processes": "4", "max_parallel_workers_per_gather": "0",
	},
	NUC: {
		"shared_buffers": "1GB", "effective_cache_size": "4GB", "work_mem": "16MB",
		"maintenance_work_mem": "256MB", "logical_decoding_work_mem": "64MB", "max_connections": "100",
		"min_wal_size": "64MB", "max_wal_size": "1GB", "checkpoint_timeout": "15min",
		"max_wal_senders": "10", "max_replication_slots": "10", "effective_io_concurrency": "100",
		"autovacuum_max_workers": "3", "max_worker_processes": "8", "max_parallel_workers_per_gather": "2",
	},
	Large: {
		"shared_buffers": "4GB", "effective_cache_size": "16GB", "work_mem": "32MB",
		"maintenance_work_mem": "1GB", "logical_decoding_work_mem": "128MB", "max_connections": "200",
		"min_wal_size": "256MB", "max_wal_size": "4GB", "checkpoint_timeout": "15min",
		"max_wal_senders": "20", "max_replication_slots": "20", "effective_io_concurrency": "200",
		"autovacuum_max_workers": "4", "max_worker_processes": "16", "max_parallel_workers_per_gather": "2",
	},
}

// common holds for every profile.
func common() map[string]string {
	return map[string]string{
		"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
		"wal_level":                    "logical",
		"wal_sender_timeout":           "60s",
		"checkpoint_completion_target": "0.9",
		"random_page_cost":             "1.1", // cards and SSDs seek for free
		"jit":                          "off", // compiling costs a small CPU more than it saves
		"password_encryption":          "scram-sha-256",
		"ssl":                          "off", // loopback and socket only
		"timezone":                     "UTC",
		"log_timezone":                 "UTC",
		"log_destination":              "stderr",
		"logging_collector":            "on",
		"log_filename":                 "postgresql-%Y%m%d-%H%M%S.log",
		"log_rotation_size":            "8MB", // the oldest are removed, see prune
		"log_rotation_age":             "1d",
		"log_file_mode":                "0640",
		"log_line_prefix":              "%m [%p] %q%u@%d ",
		"log_lock_waits":               "on",
		"log_statement":                "none", // rows of the business stay out of the log
		"log_parameter_max_length":     "0",
		"cluster_name":                 "holdfast",
	}
}

// fuse is how much WAL a slot may hold back before PostgreSQL gives the slot
// up to save the disk. The queue drains the slot at once, so this matters only
// while the agent is dead: a tenth of the disk, from 1 to 32 GiB.
func fuse(diskBytes int64) string {
	n := min(max(diskBytes/10, gib), 32*gib)
	return strconv.FormatInt(n/mib, 10) + "MB"
}

// settings returns everything that holdfast.conf says.
func (c Config) settings(m machine) map[string]string {
	s := common()
	maps.Copy(s, sizes[c.Profile.resolve(m.memory)])
	s["max_slot_wal_keep_size"] = fuse(m.disk)
	s["wal_compression"] = m.compression
	s["listen_addresses"] = strings.Join(c.Listen, ",")
	s["port"] = strconv.Itoa(c.Port)
	s["log_directory"] = c.logDir()
	s["unix_socket_directories"] = ""
	if c.hasSocket() {
		s["unix_socket_directories"] = c.socketDir()
	}
	maps.Copy(s, c.Settings)
	return s
}

var settingName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*(\.[a-zA-Z_][a-zA-Z0-9_]*)?$`)

// render writes settings as a configuration file, in a stable order.
func render(settings map[string]string) []byte {
	var b bytes.Buffer
	b.WriteString("# Written by Holdfast at each start. Changes here are lost;\n# put them under settings in Holdfast's own configuration.\n")
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s = '%s'\n", k, strings.ReplaceAll(settings[k], "'", "''"))
	}
	return b.Bytes()
}

// machine is what sizing goes by.
type machine struct {
	memory      int64 // bytes
	disk        int64 // bytes of the data directory's file system
	compression string
}

func inspectMachine(dir string) (machine, error) {
	m := machine{memory: memory(), compression: "on"}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return m, fmt.Errorf("size of the disk under %s: %w", dir, err)
	}
	m.disk = int64(st.Blocks) * st.Bsize
	return m, nil
}

// memory is the machine's, or the control group's where that is smaller.
func memory() int64 {
	total := 4 * gib // a Pi, where nothing can be read
	if raw, err := os.ReadFile("/proc/meminfo"); err == nil {
		for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
			var n int64
			if _, err := fmt.Sscanf(lines.Text(), "MemTotal: %d kB", &n); err == nil {
				total = n * kib
				break
			}
		}
	}
	if raw, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64); err == nil {
			total = min(total, n)
		}
	}
	if runtime.GOARCH == "arm" { // 32 bits see no more
		total = min(total, 3*gib)
	}
	return total
}
