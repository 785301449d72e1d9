package channel

// NewChat makes the senders besides Twilio's: each that the configuration
// makes possible. publish nil leaves MQTT out.
func NewChat(c Config, texts *Texts, publish Publisher) (map[Kind]Sender, error) {
	slack, err := NewSlack(c.Slack, texts)
	if err != nil {
		return nil, err
	}
	hook, err := NewWebhook(c.Webhook, texts)
	if err != nil {
		return nil, err
	}
	out := map[Kind]Sender{
		Slack: slack, Teams: NewTeams(c.Teams, texts), PagerDuty: NewPagerDuty(c.PagerDuty, texts), Webhook: hook,
	}
	if c.Email.Host != "" {
		if out[Email], err = NewEmail(c.Email, texts); err != nil {
			return nil, err
		}
	}
	if publish != nil {
		out[MQTT] = NewMQTT(publish, texts)
	}
	return out, nil
}
