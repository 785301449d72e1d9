package edge

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/hint"
)

func TestWrongBrokerSettingsAreSaidWithTheirPlace(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "edge.yaml")
	if err := os.WriteFile(file, []byte("mqtt:\n  url: \"http://broker\"\n  password_file: /p\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := LoadConfig(file)
	for _, want := range []string{":2:8: mqtt.url", ":3:18: mqtt.password_file"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("nothing is said of %s: %v", want, err)
		}
	}
}

func TestAWatchdogIsWarnedOfUnlessTheOperatorSaysOtherwise(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "edge.yaml")
	for text, want := range map[string]string{"{}\n": "warn", "watchdog: ignore\n": "ignore", "watchdog: off\n": ""} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := LoadConfig(file); c.Watchdog != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", text, c.Watchdog, err, want)
		}
	}
}

func TestTheBrokersPasswordIsReadAtEachConnect(t *testing.T) {
	t.Parallel()
	if (MQTTConfig{}).password() != nil {
		t.Error("a password without a file")
	}
	file := filepath.Join(t.TempDir(), "password")
	password := MQTTConfig{User: "la", Password: file}.password()
	for _, want := range []string{"first", "second"} {
		if err := os.WriteFile(file, []byte(want+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := password(); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := password(); hint.Of(err) == "" {
		t.Errorf("a file that everybody may read: %v", err)
	}
}
