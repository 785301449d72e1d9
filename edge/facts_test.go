package edge

import (
	"testing"

	"github.com/agogsaas/holdfast/proto"
)

func TestTheBoxsOwnScreenShowsWhatItsMachineTells(t *testing.T) {
	t.Parallel()
	f := &facts{dir: t.TempDir()}
	warm := int64(48_200)
	b := f.screen(proto.Status{
		Versions: proto.Versions{Hardware: "Raspberry Pi 4 Model B"}, MilliCelsius: &warm,
		Watchdog: &proto.Watchdog{State: proto.WatchdogUnarmed},
	})
	if b.Model != "Raspberry Pi 4 Model B" || b.TempC != 48.2 || b.Watchdog != "not armed" || b.DiskTotal == 0 {
		t.Errorf("%+v", b)
	}
	if b := f.screen(proto.Status{}); b.TempC != 0 || b.Watchdog != "" {
		t.Errorf("a machine that says nothing has %+v", b)
	}
}
