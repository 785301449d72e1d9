package pgtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/agogsaas/holdfast/internal/pgcluster"
)

// In memory where there is room, else under the temporary directory (to make and
// remove a server's thousand small files takes a disk longer than all that is in them):
//
//	holdfast-pgtest-<uid>/         one per user who runs tests
//	  template-<version>-<user>/   an initdb'ed data directory, copied per server
//	  lock                         held while run-* are made and swept
//	  ports/<port>                 locked while a test server owns the port
//	  run-*/                       one per test binary, removed when it ends
//	    lock                       locked while the test binary lives
//	    s*/                        one per server
//
// Who removes run-*: a small shell that waits for the end of a pipe which only
// the test binary holds. The kernel closes it however the binary ends, also by
// kill -9, so no server outlives its tests. Should the shell be killed too,
// the next test binary sweeps what is unlocked.

type runDir struct {
	base     string
	path     string
	lock     *os.File
	pipe     *os.File // held open for life: its end tells the watchdog
	account  pgcluster.Account
	binaries pgcluster.Binaries
}

// memory is where files are that go with the machine, and memoryMin how much must be
// free there: a server takes about 100 MB, and scenarios have a dozen at a time.
const (
	memory    = "/dev/shm"
	memoryMin = 8 << 30
)

func root() string {
	var st syscall.Statfs_t
	if err := syscall.Statfs(memory, &st); err == nil && st.Bavail*uint64(st.Bsize) >= memoryMin {
		return memory
	}
	return os.TempDir()
}

var openRunDir = sync.OnceValues(makeRunDir)

func makeRunDir() (*runDir, error) {
	account, err := pgcluster.FindAccount("")
	if err != nil {
		return nil, err
	}
	binaries, err := pgcluster.FindBinaries("")
	if err != nil {
		return nil, err
	}
	base := filepath.Join(root(), "holdfast-pgtest-"+strconv.Itoa(os.Geteuid()))
	r := &runDir{base: base, account: account, binaries: binaries}
	if err := r.makeBase(); err != nil {
		return nil, err
	}
	if err := account.Reaches(filepath.Join(base, "x")); err != nil {
		return nil, err
	}
	// Held while sweeping and making: a folder that is made but not yet locked
	// looks like one that was left behind.
	door, err := lockFile(filepath.Join(base, "lock"), syscall.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("lock the folder for test servers: %w", err)
	}
	defer door.Close()
	r.sweep()
	if r.path, err = os.MkdirTemp(base, "run-"); err != nil {
		return nil, fmt.Errorf("make a run folder: %w", err)
	}
	if err := os.Chmod(r.path, 0o755); err != nil {
		return nil, fmt.Errorf("open the run folder: %w", err)
	}
	if r.lock, err = lockFile(filepath.Join(r.path, "lock"), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock the run folder: %w", err)
	}
	if err := r.startWatchdog(); err != nil {
		return nil, err
	}
	return r, nil
}

// makeBase refuses a folder of somebody else's: its name is predictable.
func (r *runDir) makeBase() error {
	if err := os.MkdirAll(filepath.Join(r.base, "ports"), 0o755); err != nil {
		return fmt.Errorf("make the folder for test servers: %w", err)
	}
	info, err := os.Lstat(r.base)
	if err != nil {
		return fmt.Errorf("look at the folder for test servers: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is not a folder of this user; remove it or set TMPDIR", r.base)
	}
	return nil
}

// watchdog ends the servers under $1 and removes it. A postmaster's working
// directory is its data directory; that tells it from a process that got the
// same number later.
const watchdog = `trap '' INT TERM HUP
cat >/dev/null
find "$1" -name postmaster.pid | while read -r pidfile; do
  pid=$(head -n 1 "$pidfile" 2>/dev/null) || continue
  data=$(dirname "$pidfile")
  [ "$(readlink "/proc/$pid/cwd")" = "$data" ] || continue
  kill -QUIT "$pid"
  n=0
  while kill -0 "$pid" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
done
rm -rf "$1"`

func (r *runDir) startWatchdog() error {
	in, out, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make the watchdog's pipe: %w", err)
	}
	defer in.Close()
	cmd := exec.Command("sh", "-c", watchdog, "holdfast-pgtest", r.path)
	cmd.Stdin = in
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		out.Close()
		return fmt.Errorf("start the watchdog: %w", err)
	}
	r.pipe = out
	return cmd.Process.Release() // it outlives us by design
}

// sweep removes run folders whose test binary and watchdog are both gone.
func (r *runDir) sweep() {
	old, _ := filepath.Glob(filepath.Join(r.base, "run-*")) // the pattern is right
	for _, dir := range old {
		lock, err := lockFile(filepath.Join(dir, "lock"), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != nil {
			continue // in use, or just being made
		}
		for _, pid := range postmasters(dir) {
			syscall.Kill(pid, syscall.SIGQUIT)
		}
		os.RemoveAll(dir)
		lock.Close()
	}
}

func lockFile(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// copyTemplate makes a data directory without running initdb, which takes a
// second or more, when one of this version was made before.
func (r *runDir) copyTemplate(data string) error {
	template := filepath.Join(r.base, "template-"+r.binaries.Version+"-"+r.account.Name)
	lock, err := lockFile(template+".lock", syscall.LOCK_EX)
	if err != nil {
		return fmt.Errorf("lock the template: %w", err)
	}
	defer lock.Close()
	if _, err := os.Stat(template); errors.Is(err, os.ErrNotExist) {
		if err := r.makeTemplate(template); err != nil {
			return err
		}
	}
	out, err := exec.Command("cp", "-R", template, data).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy the template: %w: %s", err, out)
	}
	return os.Chmod(data, 0o700)
}

func (r *runDir) makeTemplate(template string) error {
	half, err := os.MkdirTemp(r.base, "new-")
	if err != nil {
		return fmt.Errorf("make a folder for the template: %w", err)
	}
	defer os.RemoveAll(half)
	if err := r.account.Own(half); err != nil {
		return err
	}
	cmd := exec.Command(r.binaries.Path("initdb"), "-D", half, "-U", Superuser, "-A", "trust",
		"-E", "UTF8", "--locale=C", "--data-checksums", "--no-sync")
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.SysProcAttr = r.account.SysProcAttr()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	if err := os.Rename(half, template); err != nil {
		return fmt.Errorf("put the template in place: %w", err)
	}
	return nil
}

// Ports are taken below the range from which the kernel gives out ports of
// its own accord, and stay locked, so that a server finds its port free after
// a restart.
const (
	portFirst = 20000
	portCount = 12000
	portTries = 200
)

func (r *runDir) takePort() (int, *os.File, error) {
	for range portTries {
		port := portFirst + rand.IntN(portCount)
		lock, err := lockFile(filepath.Join(r.base, "ports", strconv.Itoa(port)), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != nil {
			continue
		}
		if err := isFree(port); err != nil {
			lock.Close()
			continue
		}
		return port, lock, nil
	}
	return 0, nil, errors.New("found no free port for a test server")
}

func isFree(port int) error {
	addr := "127.0.0.1:" + strconv.Itoa(port)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}
