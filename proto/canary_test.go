package proto

import (
	"strings"
	"testing"
)

func TestCanariesAreNoFacility(t *testing.T) {
	t.Parallel()
	topic := CanaryTopic("4XK2QW7A", 1)
	if prefix, ok := strings.CutSuffix(CanaryFilter("4XK2QW7A"), "+"); !ok || !strings.HasPrefix(topic, prefix) {
		t.Errorf("%s is not heard with %s", topic, CanaryFilter("4XK2QW7A"))
	}
	if tenant, facility, kind, err := ParseTopic(topic); err == nil {
		t.Errorf("%s is %s/%s/%s", topic, tenant, facility, kind)
	}
	for _, k := range append(KindsUp, KindsDown...) {
		if strings.HasSuffix(topic, "/"+string(k)) {
			t.Errorf("%s is heard with %s", topic, Filter(k))
		}
	}
}
