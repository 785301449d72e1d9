package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/durable"
	"github.com/agogsaas/holdfast/internal/hint"
)

func (a *app) loginCmd() *cobra.Command {
	var name, file string
	cmd := &cobra.Command{
		Use: "login", Short: "Sign in and keep an API token in ~/.config/holdfast/ctl.yaml", Args: takes(0),
		Example: "  holdfastctl login --url https://us-east.example.com --user maria",
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := a.configPath()
			if path == "" {
				return usageError{hint.Wrap(errors.New("there is no home folder to keep the token in"), "Set HOME, or make a token with holdfastctl token add and use --token-file.")}
			}
			r, err := a.findRegion()
			if err != nil {
				return err
			}
			if name == "" {
				fmt.Fprint(a.err, "Account: ")
				if name, err = readLine(a.in); err != nil {
					return usageError{hint.Wrap(fmt.Errorf("read the account's name: %w", err), "Give it with --user.")}
				}
			}
			password, err := a.loginPassword(file)
			if err != nil {
				return err
			}
			t, err := (&v1.Client{URL: r.URL}).Login(cmd.Context(), v1.Login{Name: name, Password: password, TokenName: tokenLabel(a.clock())})
			if err != nil {
				return err
			}
			if err := saveConfig(path, ctlConfig{URL: r.URL, Token: t.Secret}); err != nil {
				return err
			}
			t.Secret = ""
			return a.show(t, func() error {
				a.printf("Signed in to %s as %s (%s) until %s.\nThe token is in %s.\n", r.URL, name, t.Role, a.whenPtr(t.ExpiresAt), path)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&name, "user", "", "account; without it you are asked")
	cmd.Flags().StringVar(&file, "password-file", "", "file that holds the password; without it you are asked")
	return cmd
}

func (a *app) loginPassword(file string) (string, error) {
	if file != "" {
		return readSecretFile(file)
	}
	p, err := a.readSecret("Password: ")
	if errors.Is(err, errNoTerminal) {
		return "", usageError{hint.Wrap(err, "Give a file that holds it with --password-file.")}
	}
	return p, err
}

func tokenLabel(now time.Time) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host + " " + now.UTC().Format("2006-01-02T15:04:05.000Z")
}

// saveConfig replaces the file as a whole, closed to others from the start.
func saveConfig(path string, c ctlConfig) error {
	raw, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the folder for %s: %w", path, err)
	}
	if err := durable.WriteFile(path, raw, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
