package teams_test

import (
	"testing"

	"github.com/agogsaas/holdfast/test/peers/teams"
)

// A stand-in that shows what Teams does not would prove nothing.
func TestACardMustBeAsItsSchemaSays(t *testing.T) {
	t.Parallel()
	p, err := teams.New(teams.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for card, ok := range map[string]bool{
		`{"type":"AdaptiveCard","version":"1.2","body":[{"type":"TextBlock","text":"hello","wrap":true}]}`:            true,
		`{"type":"AdaptiveCard","version":"1.2","actions":[{"type":"Action.OpenUrl","title":"x","url":"https://x"}]}`: true,
		`{"type":"AdaptiveCard","body":[]}`:                                                                        false,
		`{"type":"MessageCard","version":"1.2"}`:                                                                   false,
		`{"type":"AdaptiveCard","version":"1.2","body":[{"type":"TextBlock"}]}`:                                    false,
		`{"type":"AdaptiveCard","version":"1.2","body":[{"type":"Text","text":"hello"}]}`:                          false,
		`{"type":"AdaptiveCard","version":"1.2","body":[{"type":"TextBlock","text":"hello","color":"red"}]}`:       false,
		`{"type":"AdaptiveCard","version":"1.2","actions":[{"type":"Action.OpenUrl","title":"x"}]}`:                false,
		`{"type":"AdaptiveCard","version":"1.2","actions":[{"type":"Action.Http","title":"x","url":"https://x"}]}`: false,
		`{"type":"AdaptiveCard","version":"1.2","body":"hello"}`:                                                   false,
		`{`: false,
	} {
		if _, err := p.ReadCard([]byte(card)); (err == nil) != ok {
			t.Errorf("%s: %v", card, err)
		}
	}
}
