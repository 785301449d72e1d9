package broker

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// osUser is whom the broker runs as; nil means as this process.
type osUser struct{ uid, gid uint32 }

// brokerUser picks an unprivileged user when this process is root.
func brokerUser(given string) (*osUser, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	names := []string{"mosquitto", "nobody"}
	if given != "" {
		names = []string{given, "nobody"}
	}
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("look up user %s: %w", name, err)
		}
		return &osUser{uint32(uid), uint32(gid)}, nil
	}
	return nil, errors.New("the broker must not run as root, and there is no user " + strings.Join(names, " or "))
}

func (u *osUser) own(path string) error {
	if u == nil {
		return nil
	}
	if err := os.Lchown(path, int(u.uid), int(u.gid)); err != nil {
		return fmt.Errorf("give the broker its files: %w", err)
	}
	return nil
}

func (u *osUser) ownFile(f *os.File) error {
	if u == nil {
		return nil
	}
	if err := f.Chown(int(u.uid), int(u.gid)); err != nil {
		return fmt.Errorf("give the broker its files: %w", err)
	}
	return nil
}

func (u *osUser) credential() *syscall.Credential {
	if u == nil {
		return nil
	}
	return &syscall.Credential{Uid: u.uid, Gid: u.gid}
}

// reaches reports whether the user can pass through all folders above dir.
func (u *osUser) reaches(dir string) bool {
	if u == nil {
		return true
	}
	for p := filepath.Dir(dir); ; p = filepath.Dir(p) {
		info, err := os.Stat(p)
		if err != nil {
			return false
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return false
		}
		bits := info.Mode().Perm()
		switch {
		case st.Uid == u.uid:
			bits >>= 6
		case st.Gid == u.gid:
			bits >>= 3
		}
		if bits&1 == 0 {
			return false
		}
		if p == "/" {
			return true
		}
	}
}

// makeDir makes the broker's folder and returns where it is. When the broker's
// user cannot reach the one asked for (under /root, say), it is made among the
// temporary files, and cleanup removes it.
func makeDir(dir string, u *osUser) (where string, cleanup func() error, err error) {
	where, err = filepath.Abs(dir)
	if err != nil {
		return "", nil, fmt.Errorf("make the broker's folder: %w", err)
	}
	cleanup = func() error { return nil }
	if u.reaches(where) {
		err = os.MkdirAll(where, 0o700)
	} else {
		where, err = os.MkdirTemp("", "holdfast-broker-")
		cleanup = func() error { return os.RemoveAll(where) }
	}
	if err != nil {
		return "", nil, fmt.Errorf("make the broker's folder: %w", err)
	}
	if err := os.Chmod(where, 0o700); err != nil {
		return "", nil, errors.Join(fmt.Errorf("make the broker's folder: %w", err), cleanup())
	}
	if err := u.own(where); err != nil {
		return "", nil, errors.Join(err, cleanup())
	}
	return where, cleanup, nil
}
