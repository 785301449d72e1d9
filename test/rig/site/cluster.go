package site

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// copyCluster puts a copy of Options.Cluster where a program would make its own.
func (s *Site) copyCluster(ctx context.Context, to string) error {
	if s.Cluster == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(to, "data")); !errors.Is(err, fs.ErrNotExist) {
		return err // it has one from an earlier run
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return fmt.Errorf("make the cluster's folder: %w", err)
	}
	for _, part := range []string{"data", "secrets"} {
		if out, err := exec.CommandContext(ctx, "cp", "-a", filepath.Join(s.Cluster, part), to).CombinedOutput(); err != nil {
			return fmt.Errorf("copy a cluster: %w: %s", err, out)
		}
	}
	return nil
}
