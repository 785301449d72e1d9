package channel

import "github.com/agogsaas/holdfast/cloud/detect"

// Actions are what the one who is told does about a condition, in order.
// support is whom he calls, in words; "" for his own IT support.
func Actions(kind detect.Kind, support string) []string {
	if support == "" {
		support = "your IT support"
	}
	call := "Call " + support + "."
	if a, ok := actions[kind]; ok {
		return append(append([]string(nil), a...), call)
	}
	return []string{"Open the incident's page and read what is known.", call}
}

const (
	checkInternet = "Check the internet at the facility: does another device get online?"
	checkPower    = "Check that the box has power and its lights are on."
	checkTunnel   = "Check the tunnel: is UDP to the region blocked by the firewall?"
)

// actions lacks the last one, which is always to call somebody.
var actions = map[detect.Kind][]string{
	detect.Offline:       {checkInternet, checkPower, checkTunnel},
	detect.TunnelDown:    {checkTunnel, "Restart the facility's router, if nothing was changed at the firewall."},
	detect.TelemetryDown: {"Check the firewall: is TCP to the region's broker blocked?", "Restart the box, if nothing was changed at the firewall."},
	detect.Unstable:      {"Check the internet at the facility: cables, router, provider's outages.", checkPower},
	detect.QueueFilling:  {"Check the tunnel and the internet: what waits cannot leave.", "Check the facility's speed limit and its times."},
	detect.DiskFilling:   {"Free space on the box's data disk.", "See what grows on the facility's page."},
	detect.DatabaseDown:  {"Read the facility's own page for the database's last error.", "Restart the box."},
	detect.NoProgress:    {"See on the facility's page what waits, and why.", "Restart the box."},
	detect.ClockOff:      {"Check that the box reaches a time server.", "Replace the clock's battery, if it is wrong after each start."},
	detect.Watchdog:      {"Restart the box.", "Check that its hardware watchdog is switched on."},
	detect.Certificate:   {"Check that the box reaches the region's enrolment address.", "Make a new token and enrol the box again."},
	detect.ParkedRows:    {"Open the facility's parked changes, read the reason, correct or discard them."},
	detect.Mismatch:      {"See on the facility's page which rows differ.", "Have the differing rows sent again."},
	detect.Temperature:   {"Check the air around the box: dust, sun, a closed cabinet.", "Check its fan."},
	detect.Blind:         {"Check the region's broker and network: this is ours, no facility's.", "Check whether the region's process or database stalls."},
	detect.Outage:        {"Look for what the facilities have in common: provider, country, the region's own network.", "Check the provider's status page."},
	detect.Alerting:      {"Read the incident's page for what is stuck.", "Restart the region's process."},
	detect.Drill:         {"Nothing is wrong. Acknowledge, to prove that this way works."},
}
