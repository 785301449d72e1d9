package twilio_test

import (
	"net/url"
	"testing"

	"github.com/twilio/twilio-go/client"

	"github.com/agogsaas/holdfast/test/peers/twilio"
)

// The examples of Twilio's page on security and of its libraries' documentation.
func TestRequestsAreSignedAsTwilioPublishes(t *testing.T) {
	t.Parallel()
	const address = "https://mycompany.com/myapp.php?foo=1&bar=2"
	for caller, want := range map[string]string{
		"+12349013030": "0/KCTR6DLpKmkAf8muzZqo1nDgQ=",
		"+14158675309": "RSOYDt4T1cUTdK1PDd93/VVr8B8=",
	} {
		form := url.Values{"CallSid": {"CA1234567890ABCDE"}, "Caller": {caller}, "Digits": {"1234"}, "From": {caller}, "To": {"+18005551212"}}
		if got := twilio.Sign("12345", address, form); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	// One name is the beginning of another.
	form := url.Values{
		"Digits": {"1234"}, "CallSid": {"CA1234567890ABCDE"}, "To": {"+18005551212"}, "Caller": {"+14158675309"}, "From": {"+14158675309"},
		"ReasonConferenceEnded": {"test"}, "Reason": {"Participant"},
	}
	if got, want := twilio.Sign("12345", address, form), "vOEb5UThFn24KEfnOFLQY2AE5FY="; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	signed, got := twilio.SignBody("12345", address, []byte(`{"property": "value", "boolean": true}`))
	if want := "a9nBmqA0ju/hNViExpshrM61xv4="; got != want || signed != address+"&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620" {
		t.Errorf("%s of %s, want %s", got, signed, want)
	}
	_, got = twilio.SignBody("12345", "https://mycompany.com/myapp.php", []byte(`{"property": "value", "boolean": true}`))
	if want := "y77kIzt2vzLz71DgmJGsen2scGs="; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func FuzzSignaturesAreWhatTheOfficialValidatorAccepts(f *testing.F) {
	f.Add("12345", "https://a.example:8443/hooks/x?y=1", "Body", "A17 + é\n", "From", "+1")
	f.Add("t", "http://127.0.0.1:9/", "a", "", "ab", "b")
	f.Fuzz(func(t *testing.T, token, address, k1, v1, k2, v2 string) {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Port() == "" || u.Fragment != "" || u.String() != address || k1 == k2 || u.Query().Has("bodySHA256") {
			return
		}
		form := url.Values{k1: {v1}, k2: {v2}}
		v := client.NewRequestValidator(token)
		if !v.ValidateBody(address, []byte(form.Encode()), twilio.Sign(token, address, form)) {
			t.Errorf("refused: %q %q", address, form)
		}
		if v.ValidateBody(address, []byte(form.Encode()), twilio.Sign(token+"x", address, form)) {
			t.Error("another token's signature is accepted")
		}
	})
}
