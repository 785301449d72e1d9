package version

import "testing"

func TestVersionIsNeverEmpty(t *testing.T) {
	if String() == "" {
		t.Error("no version")
	}
	set = "v1.2.3"
	t.Cleanup(func() { set = "" })
	if got := String(); got != "v1.2.3" {
		t.Errorf("version is %q, want what the linker has set", got)
	}
}
