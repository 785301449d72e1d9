package site

import (
	"crypto/rand"
	"fmt"
	"net"
)

// fillPorts finds free ports for those that are 0. Between finding and using
// one somebody else may take it; nothing that can be done here would help.
func fillPorts(p *Ports) error {
	for _, port := range []*int{&p.HTTP, &p.Postgres, &p.Enrol, &p.MQTT, &p.MQTTPlain} {
		if err := freeTCP(port); err != nil {
			return err
		}
	}
	return freeUDP(&p.WireGuard)
}

func freeTCP(port *int) error {
	if *port != 0 {
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("find a free port: %w", err)
	}
	*port = l.Addr().(*net.TCPAddr).Port
	return l.Close()
}

func freeUDP(port *int) error {
	if *port != 0 {
		return nil
	}
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("find a free port: %w", err)
	}
	*port = c.LocalAddr().(*net.UDPAddr).Port
	return c.Close()
}

func randomText() string { return rand.Text() }
