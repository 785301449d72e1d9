package webhook_test

import (
	"testing"
	"time"

	"github.com/agogsaas/holdfast/test/peers/webhook"
)

// The sum is openssl's and in docs/channels.md.
func TestASignatureIsTheOneInTheManual(t *testing.T) {
	t.Parallel()
	const (
		secret = "hfwh_0123456789abcdefghijklmnopqrstuv"
		right  = "t=1765000000,v1=8a15ea4ba3322757a1cc8ee289de9b1312bee9e3b0e8b945ad71cf8077a5fc0a"
		body   = `{"schema":1}`
	)
	now := time.Unix(1765000010, 0)
	if err := webhook.Verify(secret, right, []byte(body), now); err != nil {
		t.Error(err)
	}
	for name, tc := range map[string]struct {
		header, body string
		now          time.Time
	}{
		"another body": {right, body + " ", now},
		"replayed":     {right, body, now.Add(time.Hour)},
		"no time":      {right[13:], body, now},
		"no sum":       {right[:13], body, now},
		"empty":        {"", body, now},
	} {
		if err := webhook.Verify(secret, tc.header, []byte(tc.body), tc.now); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
