package channel

import (
	"strings"
	"testing"

	"github.com/agogsaas/holdfast/internal/config"
)

func TestWhatIsWrongWithTheConfigurationIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	const sid = "AC00000000000000000000000000000001"
	for text, want := range map[string]string{
		"public_url: https://a.example\ntwilio: {account_sid: " + sid + ", auth_token_file: /x, from_sms: \"+12135550100\", from_voice: \"+12135550100\"}": "",
		"public_url: https://a.example/holdfast\ntwilio: {account_sid: " + sid + ", auth_token_file: /x, from_sms: MG00000000000000000000000000000001}":    "",
		"public_url: http://127.0.0.1:8080":                                              "",
		"public_url: a.example":                                                          "public_url",
		"public_url: https://a.example?x=1":                                              "public_url",
		"templates_dir: here":                                                            "templates_dir",
		"twilio: {account_sid: " + sid + ", auth_token_file: /x}":                        "public_url",
		"public_url: https://a.example\ntwilio: {account_sid: " + sid + "}":              "auth_token_file",
		"public_url: https://a.example\ntwilio: {account_sid: SK1, auth_token_file: /x}": "account_sid",
		"twilio: {from_sms: \"+12135550100\"}":                                           "account_sid",
		"twilio: {base_url: \"http://127.0.0.1:8090/twilio\"}":                           "",
		"twilio: {base_url: \"http://twilio.example.com\"}":                              "base_url",
		"twilio: {base_url: nowhere}":                                                    "base_url",
		"public_url: https://a.example\ntwilio: {account_sid: " + sid + ", auth_token_file: /x, from_sms: Foo, from_voice: \"555\"}": "from_voice",
		"twilio: {auth_token: secret}": "auth_token",
	} {
		var c Config
		err := config.Parse("cloud.yaml", []byte(text), &c)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s\n%v, want %q", text, err, want)
		}
	}
}
