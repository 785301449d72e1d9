package channel

import (
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/agogsaas/holdfast/internal/config"
)

// Config is the section alerts of a region's configuration: how people are told.
type Config struct {
	PublicURL string `yaml:"public_url" doc:"How people and providers reach this region's dashboard from outside: https://host. Links in messages begin with it, and what Twilio signs is checked against it. Without it messages have no links, and nobody can acknowledge by a key or an SMS."`
	Support   string `yaml:"support" doc:"Whom a facility's people call for help, in words: a name and a number. Messages say it as the last thing to do."`
	Templates string `yaml:"templates_dir" doc:"Directory with message templates of your own (sms.tmpl, voice.tmpl, email.tmpl, email.html.tmpl, slack.tmpl, teams.tmpl, plain.tmpl). What it lacks is as built in."`
	DeadMan   string `yaml:"dead_man_url_file" doc:"File (mode 0600) with a URL outside of this region that is fetched each minute while alerting is found to work: whoever watches it calls you when that stops. Empty: nobody watches the watcher."`

	Twilio    TwilioConfig    `yaml:"twilio"`
	Email     EmailConfig     `yaml:"email"`
	Slack     SlackConfig     `yaml:"slack"`
	Teams     TeamsConfig     `yaml:"teams"`
	PagerDuty PagerDutyConfig `yaml:"pagerduty"`
	Webhook   WebhookConfig   `yaml:"webhook"`
}

// TwilioConfig is the account for SMS and calls.
type TwilioConfig struct {
	AccountSID string `yaml:"account_sid" doc:"The account's SID (AC…). Empty: no SMS and no calls."`
	AuthToken  string `yaml:"auth_token_file" doc:"File (mode 0600) with the account's auth token."`
	FromSMS    string `yaml:"from_sms" doc:"Sends the SMS: a number (+1…), a short code, or the SID of a messaging service (MG…). Empty: no SMS."`
	FromVoice  string `yaml:"from_voice" doc:"Makes the calls: a number (+1…). Empty: no calls."`
	Language   string `yaml:"voice_language" doc:"Language that calls are spoken in, such as en-US or de-DE. It changes the voice; what it says is in voice.tmpl. Empty: Twilio's default, en-US."`
	BaseURL    string `yaml:"base_url" doc:"Where Twilio is; empty is Twilio itself. The demo names its stand-in here."`
}

var (
	accountSID = regexp.MustCompile(`^AC[0-9a-fA-F]{32}$`)
	serviceSID = regexp.MustCompile(`^MG[0-9a-fA-F]{32}$`)
	shortCode  = regexp.MustCompile(`^[0-9]{3,8}$`)
	language   = regexp.MustCompile(`^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}$`)
	// number is a telephone number as ITU-T E.164 has it.
	number = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)
)

// Validate reports what is wrong with the values.
func (c *Config) Validate() (p []config.Problem) {
	if c.PublicURL != "" && !isBaseURL(c.PublicURL) {
		p = append(p, config.Problem{Path: "public_url", Text: "must be https://host or http://host, without a query"})
	}
	if c.Templates != "" && !filepath.IsAbs(c.Templates) {
		p = append(p, config.Problem{Path: "templates_dir", Text: "must be an absolute path"})
	}
	if c.Twilio.AccountSID != "" && c.PublicURL == "" {
		p = append(p, config.Problem{Path: "public_url", Text: "is needed for Twilio, which fetches what a call says and tells there what became of it"})
	}
	return p
}

// Validate reports what is wrong with the values.
func (t *TwilioConfig) Validate() (p []config.Problem) {
	bad := func(path, text string) { p = append(p, config.Problem{Path: path, Text: text}) }
	if t.Language != "" && !language.MatchString(t.Language) {
		bad("voice_language", "must be a language such as en-US")
	}
	if t.BaseURL != "" && (!isBaseURL(t.BaseURL) || strings.HasPrefix(t.BaseURL, "http:") && !isHere(t.BaseURL)) {
		bad("base_url", "must be https://host, or http://127.0.0.1 for a stand-in on this machine: the token travels there")
	}
	if t.AccountSID == "" {
		if t.AuthToken != "" || t.FromSMS != "" || t.FromVoice != "" {
			bad("account_sid", "is needed beside the other settings")
		}
		return p
	}
	if !accountSID.MatchString(t.AccountSID) {
		bad("account_sid", "must be AC and 32 hexadecimal digits, as Twilio's console shows it")
	}
	if t.AuthToken == "" {
		bad("auth_token_file", "is needed beside account_sid")
	}
	if f := t.FromSMS; f != "" && !number.MatchString(f) && !serviceSID.MatchString(f) && !shortCode.MatchString(f) {
		bad("from_sms", "must be a number such as +12135550100, a short code, or a messaging service's SID (MG…)")
	}
	if t.FromVoice != "" && !number.MatchString(t.FromVoice) {
		bad("from_voice", "must be a number such as +12135550100")
	}
	return p
}

// isHere reports whether a URL leads to this machine.
func isHere(s string) bool {
	u, err := url.Parse(s)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && a.IsLoopback()
}

func isBaseURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.RawQuery == "" && u.Fragment == "" && u.User == nil &&
		!strings.ContainsAny(s, " ?#")
}
