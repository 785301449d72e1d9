package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// isTerminal says whether a person sits at the other end.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), ioctlGetTermios)
	return err == nil
}

// readLine reads one line and no more, so that what follows stays unread.
func readLine(r io.Reader) (string, error) {
	var b strings.Builder
	one := make([]byte, 1)
	for b.Len() < 4096 {
		n, err := r.Read(one)
		if n == 1 && one[0] == '\n' {
			break
		}
		b.Write(one[:n])
		if errors.Is(err, io.EOF) && b.Len() > 0 {
			break
		}
		if err != nil {
			return "", err
		}
	}
	return strings.TrimRight(b.String(), "\r"), nil
}

// readSecret asks for a secret without showing it.
func (a *app) readSecret(prompt string) (string, error) {
	f, ok := a.in.(*os.File)
	if !ok || !isTerminal(f) {
		return "", errNoTerminal
	}
	fd := int(f.Fd())
	before, err := unix.IoctlGetTermios(fd, ioctlGetTermios)
	if err != nil {
		return "", fmt.Errorf("prepare the terminal: %w", err)
	}
	silent := *before
	silent.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, ioctlSetTermios, &silent); err != nil {
		return "", fmt.Errorf("prepare the terminal: %w", err)
	}
	// A terminal left without echo is worse than one that shows an error.
	defer func() { _ = unix.IoctlSetTermios(fd, ioctlSetTermios, before) }()
	fmt.Fprint(a.err, prompt)
	line, err := bufio.NewReader(f).ReadString('\n')
	fmt.Fprintln(a.err)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

var errNoTerminal = errors.New("there is no terminal to ask for the password")

func ownedByUs(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}
