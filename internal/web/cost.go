//go:build !race

package web

// bcryptCost takes about 0.15 s on a server and 0.5 s on a Raspberry Pi 4.
const bcryptCost = 11
