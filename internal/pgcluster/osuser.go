package pgcluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// Account is the operating system user that the server runs as. PostgreSQL
// refuses to run as root, so a root caller lends it another one.
type Account struct {
	Name     string
	UID, GID int
	groups   []uint32
	switched bool // we are root and become this user for the child only
}

// FindAccount returns the user that PostgreSQL's programs run as: the caller
// itself, or for root the named user (default "postgres").
func FindAccount(name string) (Account, error) {
	if os.Geteuid() != 0 {
		return Account{Name: strconv.Itoa(os.Geteuid()), UID: os.Geteuid(), GID: os.Getegid()}, nil
	}
	if name == "" {
		name = "postgres"
	}
	u, err := user.Lookup(name)
	if err != nil {
		return Account{}, noAccount(name, err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return Account{}, fmt.Errorf("user id of %s: %w", name, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return Account{}, fmt.Errorf("group id of %s: %w", name, err)
	}
	if uid == 0 {
		return Account{}, noAccount(name, errors.New("PostgreSQL refuses to run as root"))
	}
	a := Account{Name: name, UID: uid, GID: gid, switched: true}
	ids, err := u.GroupIds()
	if err != nil {
		return Account{}, fmt.Errorf("groups of %s: %w", name, err)
	}
	for _, id := range ids {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return Account{}, fmt.Errorf("group %q of %s: %w", id, name, err)
		}
		a.groups = append(a.groups, uint32(n))
	}
	return a, nil
}

// SysProcAttr starts a child as this user in a session of its own, so that
// neither a signal to our process group nor our death reaches it.
func (a Account) SysProcAttr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if a.switched {
		attr.Credential = &syscall.Credential{Uid: uint32(a.UID), Gid: uint32(a.GID), Groups: a.groups}
	}
	return attr
}

// Own gives a path, and all below it, to the account. It does nothing when
// the account is the caller's own.
func (a Account) Own(path string) error {
	if !a.switched {
		return nil
	}
	err := filepath.WalkDir(path, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(p, a.UID, a.GID)
	})
	if err != nil {
		return fmt.Errorf("give %s to %s: %w", path, a.Name, err)
	}
	return nil
}

// OwnFile gives an open file to the account, as Own does a path.
func (a Account) OwnFile(f *os.File) error {
	if !a.switched {
		return nil
	}
	if err := f.Chown(a.UID, a.GID); err != nil {
		return fmt.Errorf("give a file to %s: %w", a.Name, err)
	}
	return nil
}

// Reaches checks that the account may pass through every folder above path.
// The error names the first one that is closed.
func (a Account) Reaches(path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("resolve %s: %w", path, err)
	}
	var parents []string
	for d := filepath.Dir(abs); ; d = filepath.Dir(d) {
		parents = append(parents, d)
		if d == filepath.Dir(d) {
			break
		}
	}
	for i := len(parents) - 1; i >= 0; i-- {
		info, err := os.Stat(parents[i])
		if errors.Is(err, fs.ErrNotExist) {
			return nil // made later, by us
		}
		if err != nil {
			return fmt.Errorf("look at %s: %w", parents[i], err)
		}
		if !a.mayEnter(info) {
			return notReachable(a.Name, path, parents[i])
		}
	}
	return nil
}

func (a Account) mayEnter(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	mode := info.Mode().Perm()
	switch {
	case int(st.Uid) == a.UID:
		return mode&0o100 != 0
	case int(st.Gid) == a.GID || a.inGroup(st.Gid):
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}

func (a Account) inGroup(gid uint32) bool {
	for _, g := range a.groups {
		if g == gid {
			return true
		}
	}
	return false
}
