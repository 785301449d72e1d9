package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/config"
	"github.com/agogsaas/holdfast/internal/hint"
)

// ctlConfig is ctl.yaml: which region to talk to, and how to be let in.
type ctlConfig struct {
	// URL of the region, such as https://us-east.example.com.
	URL string `yaml:"url"`
	// Token is the API token itself. The file must then be closed to others.
	Token string `yaml:"token,omitempty"`
	// TokenFile is a file that holds the token instead; relative to this one.
	TokenFile string `yaml:"token_file,omitempty"`
}

// Validate implements config.Validator.
func (c *ctlConfig) Validate() []config.Problem {
	var p []config.Problem
	if !usableAddress(c.URL) {
		p = append(p, config.Problem{Path: "url", Text: "must be the region's address, http://host:port or https://host, without a password in it"})
	}
	if strings.ContainsAny(c.Token, " \t\r\n") {
		p = append(p, config.Problem{Path: "token", Text: "must be one API token, without spaces"})
	}
	if c.Token != "" && c.TokenFile != "" {
		p = append(p, config.Problem{Path: "token_file", Text: "cannot stand beside token; keep one of them"})
	}
	return p
}

// usableAddress reports whether requests can be sent to a region's address.
func usableAddress(addr string) bool {
	u, err := url.Parse(addr)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") && u.User == nil
}

// region is where to send requests, and who said so.
type region struct {
	URL    string
	Token  string
	Source string
}

const noRegionAdvice = "Sign in with holdfastctl login --url http://…, or give --url and --token-file; in a checkout, make demo starts a region."

// client returns a client for the region, which needs a token.
func (a *app) client() (*v1.Client, error) {
	r, err := a.findRegion()
	if err != nil {
		return nil, err
	}
	if r.Token == "" {
		return nil, usageError{hint.Wrap(fmt.Errorf("no API token for %s", r.URL), "Sign in with holdfastctl login, or give --token-file.")}
	}
	return &v1.Client{URL: r.URL, Token: r.Token}, nil
}

// findRegion looks in the places that rootHelp lists. A flag or variable wins
// over the same setting of a later place, and a token is never sent to an
// address that came from another place than the token, except when both were
// given by hand.
func (a *app) findRegion() (region, error) {
	addr, tokenFile, source := a.url, a.tokenFile, "--url"
	if addr == "" {
		addr, source = a.env("HOLDFAST_URL"), "HOLDFAST_URL"
	}
	if tokenFile == "" {
		tokenFile = a.env("HOLDFAST_TOKEN_FILE")
	}
	r := region{URL: addr, Source: source}
	if addr == "" || tokenFile == "" {
		file, from, err := a.findConfig()
		if err != nil {
			return r, err
		}
		switch {
		case addr == "" && file.URL == "":
			return r, usageError{hint.Wrap(errors.New("no region is known"), noRegionAdvice)}
		case addr == "":
			r = region{URL: file.URL, Token: file.Token, Source: from}
		case sameRegion(addr, file.URL):
			r.Token = file.Token
		}
	}
	if tokenFile != "" {
		token, err := readToken(tokenFile)
		if err != nil {
			return r, usageError{err}
		}
		r.Token = token
	}
	if !usableAddress(r.URL) {
		return r, usageError{hint.Wrap(fmt.Errorf("region address %q from %s is not usable", r.URL, r.Source), "Write it as http://host:port or https://host, without a password in it.")}
	}
	return r, nil
}

func sameRegion(a, b string) bool { return strings.TrimRight(a, "/") == strings.TrimRight(b, "/") }

// findConfig returns the person's own ctl.yaml, or the demo's, or nothing.
func (a *app) findConfig() (ctlConfig, string, error) {
	if path := a.configPath(); path != "" {
		c, found, err := readConfig(path)
		if found {
			return c, path, err
		}
	}
	demo, err := a.demoDir()
	if err != nil || demo == "" {
		return ctlConfig{}, "", err
	}
	path := filepath.Join(demo, "ctl.yaml")
	c, found, err := readConfig(path)
	if !found {
		return ctlConfig{}, "", nil
	}
	return c, path, err
}

// configPath is where a person's own configuration is, or "" without a home.
func (a *app) configPath() string {
	base := a.env("XDG_CONFIG_HOME")
	if base == "" {
		home := a.env("HOME")
		if home == "" {
			return ""
		}
		base = filepath.Join(home, ".config")
	}
	return filepath.Join(base, "holdfast", "ctl.yaml")
}

// readConfig reads a file that may not be there.
func readConfig(path string) (c ctlConfig, found bool, err error) {
	if err := config.Load(path, &c); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return c, false, nil
		}
		return c, true, usageError{hint.Wrap(err, "Correct the file, or remove it and sign in again with holdfastctl login.")}
	}
	if c.Token != "" {
		if err := onlyOurs(path); err != nil {
			return c, true, usageError{err}
		}
	}
	if c.TokenFile != "" {
		if !filepath.IsAbs(c.TokenFile) {
			c.TokenFile = filepath.Join(filepath.Dir(path), c.TokenFile)
		}
		if c.Token, err = readToken(c.TokenFile); err != nil {
			return c, true, usageError{err}
		}
	}
	return c, true, nil
}

// onlyOurs refuses a secret that others could have read.
func onlyOurs(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return hint.Wrap(fmt.Errorf("%s holds a secret and others may read it", path), "Run chmod 600 %s; if others use this machine, make a new token.", path)
	}
	return nil
}

func readToken(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", hint.Wrap(fmt.Errorf("read the API token: %w", err), "Name a file that holds an API token; holdfastctl token add makes one.")
	}
	if err := onlyOurs(path); err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(raw))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", hint.Wrap(fmt.Errorf("%s does not hold an API token", path), "The file must hold the token and nothing else.")
	}
	return token, nil
}

// demoDir is the .demo folder of the checkout that we are in, or "". One that
// belongs to somebody else is not ours to trust.
func (a *app) demoDir() (string, error) {
	if d := a.env("HOLDFAST_DEMO_DIR"); d != "" {
		return d, nil
	}
	dir, err := a.workDir()
	if err != nil {
		return "", fmt.Errorf("find the working directory: %w", err)
	}
	for {
		demo := filepath.Join(dir, ".demo")
		if info, err := os.Stat(demo); err == nil && info.IsDir() && isCheckout(dir) && ownedByUs(info) {
			return demo, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", nil
		}
		dir = up
	}
}

func isCheckout(dir string) bool {
	raw, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	return err == nil && strings.HasPrefix(string(raw), "module github.com/agogsaas/holdfast\n")
}
