//go:build !linux

package tunnel

import "net"

var runControlSize = 0

func enableRuns(*net.UDPConn) (tx, rx bool) { return false, false }
func runsRefused(error) bool                { return false }
func appendRunSize(b []byte, _ int) []byte  { return b }
func runSize([]byte) int                    { return 0 }
