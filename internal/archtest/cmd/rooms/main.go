// Command rooms rewrites the table of rooms in ARCHITECTURE.md from the
// package comments.
//
// In:  `make architecture`.
// Out: internal/archtest.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/agogsaas/holdfast/internal/archtest"
)

func main() {
	if err := rewrite(); err != nil {
		fmt.Fprintln(os.Stderr, "rooms:", err)
		os.Exit(1)
	}
}

func rewrite() error {
	root, err := archtest.Root()
	if err != nil {
		return err
	}
	house, err := archtest.Load(root)
	if err != nil {
		return err
	}
	name := filepath.Join(root, "ARCHITECTURE.md")
	old, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	text, err := house.Table(string(old))
	if err != nil || text == string(old) {
		return err
	}
	return os.WriteFile(name, []byte(text), 0o644)
}
