// Package told tests that people hear of what is wrong and can answer: the region's
// alerter and channels, a real database, and Twilio's stand-in with its phones.
//
// In:  cloud/alert and cloud/channel.
// Out: test/peers.
package told
