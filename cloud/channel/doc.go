// Package channel tells people: by SMS, voice, email, Teams, Slack, PagerDuty,
// a signed webhook and MQTT. It knows how each of them is spoken to, what a
// message says there, and what comes back: receipts and acknowledgements.
//
// In:  cloud/alert, which decides who is told what, and keeps what became of it.
// Out: the providers, over HTTP, SMTP and MQTT; cloud/alert, with what they say later.
package channel
