package pgcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/agogsaas/holdfast/internal/durable"
)

// Making the cluster's files, in this order: folders, the data directory
// (made aside and renamed, so that a crash in the middle leaves no half one),
// then the configuration, written anew at each start.

// dataMajor returns the version that a data directory was made by, and 0 for
// one that does not exist or is empty.
func dataMajor(dataDir string) (int, error) {
	raw, err := os.ReadFile(filepath.Join(dataDir, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		entries, err := os.ReadDir(dataDir)
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("look into %s: %w", dataDir, err)
		}
		return 0, notADataDir(dataDir)
	}
	if err != nil {
		return 0, fmt.Errorf("read the data's version: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return 0, fmt.Errorf("data version in %s: %w", dataDir, err)
	}
	return major, nil
}

func (c *Cluster) makeFolders() error {
	if err := os.MkdirAll(c.cfg.Dir, 0o755); err != nil {
		return fmt.Errorf("make the cluster's folder: %w", err)
	}
	if err := c.account.Reaches(c.cfg.dataDir()); err != nil {
		return err
	}
	if err := os.MkdirAll(c.cfg.secretsDir(), 0o700); err != nil {
		return fmt.Errorf("make the folder for passwords: %w", err)
	}
	// The socket's folder is open: who may connect is decided by SCRAM.
	for dir, mode := range map[string]fs.FileMode{c.cfg.logDir(): 0o750, c.cfg.socketDir(): 0o755} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("make %s: %w", dir, err)
		}
		if err := c.account.Own(dir); err != nil {
			return err
		}
	}
	return nil
}

// makeData runs initdb when there is no data yet.
func (c *Cluster) makeData(ctx context.Context) error {
	data := c.cfg.dataDir()
	major, err := dataMajor(data)
	if err != nil {
		return err
	}
	if major != 0 {
		if major != c.binaries.Major {
			return wrongMajor(data, major, c.binaries)
		}
		return c.claimData(data)
	}
	password, err := c.password(Superuser)
	if err != nil {
		return err
	}
	aside := data + ".new"
	if err := os.RemoveAll(aside); err != nil {
		return fmt.Errorf("remove what an interrupted start left: %w", err)
	}
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	if err := c.initdb(ctx, aside, password); err != nil {
		return errors.Join(err, os.RemoveAll(aside))
	}
	if err := os.Remove(data); err != nil && !errors.Is(err, fs.ErrNotExist) { // an empty one
		return fmt.Errorf("replace the empty data directory: %w", err)
	}
	if err := os.Rename(aside, data); err != nil {
		return fmt.Errorf("put the data directory in place: %w", err)
	}
	c.log.Info("made a PostgreSQL data directory", "path", data, "version", c.binaries.Version)
	return durable.SyncDir(c.cfg.Dir)
}

// claimData makes sure that the account owns existing data; as root it takes
// it over, such as after the files were restored from a backup.
func (c *Cluster) claimData(data string) error {
	info, err := os.Stat(data)
	if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) == c.account.UID {
		return nil
	}
	if !c.account.switched {
		return notOwned(data, c.account.Name)
	}
	return c.account.Own(data)
}

func (c *Cluster) initdb(ctx context.Context, dir, password string) error {
	pwfile := dir + ".pw"
	if err := os.WriteFile(pwfile, []byte(password+"\n"), 0o600); err != nil {
		return fmt.Errorf("hand the password to initdb: %w", err)
	}
	defer os.Remove(pwfile)
	if err := errors.Join(c.account.Own(dir), c.account.Own(pwfile)); err != nil {
		return err
	}
	locale := "C.UTF-8"
	out, err := c.runInitdb(ctx, dir, pwfile, locale)
	if err != nil && bytes.Contains(out, []byte("locale")) {
		// Not every C library has it. C orders text the same way.
		if err := emptyDir(dir); err != nil {
			return err
		}
		out, err = c.runInitdb(ctx, dir, pwfile, "C")
	}
	if err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

func (c *Cluster) runInitdb(ctx context.Context, dir, pwfile, locale string) ([]byte, error) {
	return c.command(ctx, "initdb", "-D", dir, "-U", Superuser, "--pwfile", pwfile, "--auth", "scram-sha-256",
		"--encoding", "UTF8", "--locale", locale, "--data-checksums").CombinedOutput()
}

// command prepares a server program to run as the account.
func (c *Cluster) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.binaries.Path(program), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = c.account.SysProcAttr()
	return cmd
}

// hba admits every role with its password, from this machine only. Physical
// replication is not admitted: it has no line, and logical replication names
// a database.
const hba = `# Written by Holdfast at each start.
local all all scram-sha-256
host  all all 127.0.0.1/32 scram-sha-256
host  all all ::1/128 scram-sha-256
`

// configure writes holdfast.conf and pg_hba.conf and says whether they differ
// from what was there.
func (c *Cluster) configure(ctx context.Context) (changed bool, err error) {
	m, err := inspectMachine(c.cfg.Dir)
	if err != nil {
		return false, err
	}
	if c.compresses(ctx, "lz4") {
		m.compression = "lz4"
	}
	data := c.cfg.dataDir()
	for path, content := range map[string][]byte{
		filepath.Join(data, "holdfast.conf"): render(c.cfg.settings(m)),
		filepath.Join(data, "pg_hba.conf"):   []byte(hba),
	} {
		wrote, err := c.writeFile(path, content)
		if err != nil {
			return false, err
		}
		changed = changed || wrote
	}
	wrote, err := c.include(filepath.Join(data, "postgresql.conf"))
	if err != nil {
		return false, err
	}
	return changed || wrote, c.checkConfig(ctx)
}

// checkConfig lets the server read its configuration without starting: what is
// wrong is then known by name, and a server that runs has not been touched.
func (c *Cluster) checkConfig(ctx context.Context) error {
	out, err := c.command(ctx, "postgres", "-D", c.cfg.dataDir(), "-C", "port").CombinedOutput()
	if err != nil {
		return badSettings(string(bytes.TrimSpace(out)), err)
	}
	return nil
}

// compresses asks whether the server was built with a compression method.
func (c *Cluster) compresses(ctx context.Context, method string) bool {
	return c.command(ctx, "postgres", "-D", c.cfg.dataDir(), "-c", "wal_compression="+method, "-C", "wal_compression").Run() == nil
}

const includeLine = "include = 'holdfast.conf'"

func (c *Cluster) include(path string) (bool, error) {
	old, err := os.ReadFile(path)
	if err != nil {
		return false, fmt.Errorf("read postgresql.conf: %w", err)
	}
	if slices.Contains(strings.Split(string(old), "\n"), includeLine) {
		return false, nil
	}
	return c.writeFile(path, append(bytes.TrimRight(old, "\n"), "\n\n"+includeLine+"\n"...))
}

// writeFile replaces a file at once and durably, unless it is the same.
func (c *Cluster) writeFile(path string, content []byte) (wrote bool, err error) {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return false, nil
	}
	if err := durable.WriteFile(path, content, 0o600, c.account.OwnFile); err != nil {
		return false, fmt.Errorf("write %s: %w", path, err)
	}
	return true, nil
}

func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look into %s: %w", dir, err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("empty %s: %w", dir, err)
		}
	}
	return nil
}

// The server's log is cut into files of 8 MB; all together may take this much.
const logMaxBytes = 64 * mib

// prune removes the oldest log files beyond logMaxBytes.
func (c *Cluster) prune(log *slog.Logger) {
	files, _ := filepath.Glob(filepath.Join(c.cfg.logDir(), "postgresql-*.log")) // named so that they sort by time
	slices.Sort(files)
	var total int64
	for _, f := range slices.Backward(files) {
		info, err := os.Stat(f)
		if err != nil {
			continue
		}
		if total += info.Size(); total > logMaxBytes {
			if err := os.Remove(f); err != nil {
				log.Warn("remove an old PostgreSQL log", "path", f, "err", err)
			}
		}
	}
}
