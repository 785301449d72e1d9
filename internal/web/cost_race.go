//go:build race

package web

import "golang.org/x/crypto/bcrypt"

// bcryptCost is the least that there is: the race detector makes a hash ten
// times as slow, and nothing but tests is built with it.
const bcryptCost = bcrypt.MinCost
