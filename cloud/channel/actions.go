package channel

import "github.com/agogsaas/holdfast/cloud/detect"

// Actions are what the one who is told does about a condition of a facility, ""
// for the region itself, in order. support is whom he calls, in words; "" for his
// own IT support.
func Actions(kind detect.Kind, facility, support string) []string {
	if support == "" {
		support = "your IT support"
	}
	call := "Call " + support + "."
	a, ok := actions[kind]
	if own, is := regional[kind]; facility == "" && is {
		a, ok = own, true
	}
	if ok {
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
	detect.TunnelDown:    {checkTunnel, "Restart the router at the facility: the box need not be restarted."},
	detect.TelemetryDown: {"Check that the facility's firewall lets TCP 8883 out to the region: data still flows."},
	detect.Unstable:      {"Check cable and plug between the box and the router.", "Ask the facility's internet provider for losses on its line."},
	detect.QueueFilling:  {"Bring the facility's connection back before the queue is full.", "Free space on the box's disk, if that takes longer."},
	detect.DiskFilling:   {"Free space on the box's disk, or put in a bigger one."},
	detect.DatabaseDown:  {"Look at the box's own page: it says what the database's log says.", "Restart the box, if its page does not answer."},
	detect.NoProgress:    {"Open the facility's page: it says which step stands still and why."},
	detect.ClockOff:      {"Check that the box reaches a time server.", "Replace the clock's battery, if it is wrong after each start."},
	detect.WatchdogOff:   {"Arm the box's hardware watchdog: RuntimeWatchdogSec=default in its /etc/systemd/system.conf, then systemctl daemon-reexec.", "Or tell the box that others watch over it: watchdog: ignore in its edge.yaml."},
	detect.Certificate:   {"Check that the box reaches the region: it renews its certificate by itself.", "Enrol the box anew, if the certificate has run out."},
	detect.ParkedRows:    {"Open the parked changes: the page says of each why it was refused and what helps."},
	detect.Mismatch:      {"Open the facility's comparison: it lists the rows that differ, and mends them on request."},
	detect.Temperature:   {"Check that air reaches the box and that nothing lies on it.", "Check its fan."},
	detect.Blind:         {"Check the region's broker, database and network: this is the region itself, not the facilities.", "Tell nobody that facilities are down: what they are is not known until then."},
	detect.Outage:        {"Find what the facilities have in common: provider, city, tunnel port.", "Check the region's own network from outside."},
	detect.Alerting:      {"Open the page of the channels: it says what does not arrive.", "Look at the page of incidents yourself until this is mended."},
	detect.Drill:         {"Nothing is wrong. Acknowledge, to prove that this way works."},
}

// regional are those of conditions that boxes have too, where it is the region's own.
var regional = map[detect.Kind][]string{
	detect.NoProgress: {
		"Open the incident's page: it says which step of the region stands still. What is changed here waits meanwhile.",
		"Look at the region's database: a full disk, or a transaction that is open for hours.", "Restart the region's process, if it is neither.",
	},
	detect.TunnelDown:    {"Find what the facilities have in common: provider, city, firewall.", "Check from outside that UDP gets to the region's tunnel port."},
	detect.TelemetryDown: {"Find what the facilities have in common: provider, city, firewall.", "Check from outside that TCP 8883 gets to the region's broker."},
	detect.ClockOff:      {"Check that the region's machine reaches a time server.", "Leave the facilities' clocks alone: it is the region's that differs from most of them."},
}
