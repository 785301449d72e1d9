package channel

import (
	"context"
	"fmt"
	"strings"

	twilio "github.com/twilio/twilio-go/rest/api/v2010"

	"github.com/agogsaas/holdfast/internal/hint"
)

// Verify asks Twilio, without telling anybody, whether the account can do what it
// is configured for: it is active, its numbers are its own and can send and call,
// and replies come to this region. What is wrong is said by channel; an error
// means that Twilio could not be asked.
func (t *Twilio) Verify(ctx context.Context) (map[Kind]error, error) {
	x, h := t.exchange(ctx)
	account, err := twilio.NewApiService(h).FetchAccount(t.conf.AccountSID)
	if err != nil {
		if err = x.wrong("ask for the account", err); !IsPermanent(err) {
			return nil, err
		}
		return t.everywhere(err), nil
	}
	if s := text(account.Status); s != "" && s != "active" {
		return t.everywhere(hint.Wrap(fmt.Errorf("the account is %s", s), "See Twilio's console.")), nil
	}
	wrong := map[Kind]error{}
	for kind, from := range map[Kind]string{SMS: t.conf.FromSMS, Voice: t.conf.FromVoice} {
		if !number.MatchString(from) {
			continue // none; or a messaging service or short code, which have settings of their own
		}
		x, h := t.exchange(ctx)
		page, err := twilio.NewApiService(h).PageIncomingPhoneNumber((&twilio.ListIncomingPhoneNumberParams{}).SetPhoneNumber(from), "", "")
		if err != nil {
			return nil, x.wrong("ask for the number "+from, err)
		}
		if err := t.sender(kind, from, page.IncomingPhoneNumbers); err != nil {
			wrong[kind] = err
		}
	}
	return wrong, nil
}

func (t *Twilio) everywhere(err error) map[Kind]error {
	all := map[Kind]error{}
	for kind := range t.Senders() {
		all[kind] = err
	}
	return all
}

// sender says what is wrong with a number that messages or calls come from.
func (t *Twilio) sender(kind Kind, from string, found []twilio.ApiV2010IncomingPhoneNumber) error {
	if len(found) == 0 && kind == Voice {
		return nil // it may be a number of somebody else that was verified for calls
	}
	if len(found) == 0 {
		return hint.Wrap(fmt.Errorf("%s is not a number of the account", from), "Buy it in Twilio's console, or name one that is there.")
	}
	n := &found[0]
	if c := n.Capabilities; c != nil && (kind == SMS && !c.Sms || kind == Voice && !c.Voice) {
		return hint.Wrap(fmt.Errorf("%s can not be used for %s", from, kind), "Take a number with that capability.")
	}
	want := t.public + hooksTwilio + "sms"
	if kind == SMS && strings.TrimSuffix(text(n.SmsUrl), "/") != want {
		return hint.Wrap(fmt.Errorf("replies to %s do not come to this region", from),
			"In Twilio's console set the number's messaging webhook to %s (HTTP POST). Until then nobody can acknowledge by SMS.", want)
	}
	return nil
}
