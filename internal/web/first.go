package web

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/agogsaas/holdfast/internal/durable"
	"github.com/agogsaas/holdfast/internal/hint"
)

// FirstAccount makes the account admin where there is no account yet. Its
// password is the first line of passwordFile, or, if that is "", one that is
// made up and written to <stateDir>/admin-password, readable by the owner only.
func FirstAccount(ctx context.Context, store PGStore, passwordFile, stateDir string) error {
	none, err := store.Empty(ctx)
	if err != nil || !none {
		return err
	}
	var password string
	if passwordFile != "" {
		b, err := os.ReadFile(passwordFile) //nolint:gosec // named by the operator
		if err != nil {
			return hint.Wrap(fmt.Errorf("read the first account's password: %w", err), "Write a password to %s, or remove password_file from the configuration to have one made up.", passwordFile)
		}
		password, _, _ = strings.Cut(strings.TrimSpace(string(b)), "\n")
	} else {
		password = rand.Text()
		name := filepath.Join(stateDir, "admin-password")
		if err := durable.WriteFile(name, []byte(password+"\n"), 0o600); err != nil {
			return fmt.Errorf("keep the first account's password: %w", err)
		}
	}
	return store.PutAccount(ctx, "admin", strings.TrimSpace(password), Admin)
}
