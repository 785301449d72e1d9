// Package alert sees to it that people hear of what is wrong: it opens and
// resolves incidents, runs their escalations, hands each message to its
// channel until it is taken, and keeps who was told and who answered.
//
// In:  cloud/detect, with what is wrong now; cloud/oncall, with who is told; cloud/channel, with receipts and acknowledgements.
// Out: cloud/channel; cloud/api and cloud/dashboard, which show it; the region's PostgreSQL.
package alert
