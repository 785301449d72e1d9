package config

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size. It is written as a number of bytes or with a unit: "512 MiB",
// "1.5 GB". B, kB, MB, GB, TB count in thousands and KiB, MiB, GiB, TiB in 1024s.
type Bytes int64

var units = []struct {
	name string
	size int64
}{
	{"TiB", 1 << 40},
	{"GiB", 1 << 30},
	{"MiB", 1 << 20},
	{"KiB", 1 << 10},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"B", 1},
}

// String returns the size exactly, in the unit that gives the smallest number.
func (b Bytes) String() string {
	size, unit := int64(b), ""
	for _, u := range units {
		if n := int64(b) / u.size; int64(b)%u.size == 0 && n < size {
			size, unit = n, " "+u.name
		}
	}
	return strconv.FormatInt(size, 10) + unit
}

// MarshalText returns what UnmarshalText reads.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads a size. Negative sizes, parts of a byte and more than an
// int64 holds are refused.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	number, unit := s, int64(1)
	for _, u := range units {
		if rest, ok := cutSuffixFold(s, u.name); ok {
			number, unit = strings.TrimSpace(rest), u.size
			break
		}
	}
	bad := fmt.Errorf("%q is not a size; write bytes or a unit, for example 512 MiB or 8 GiB", s)
	if number == "" || len(number) > 24 || strings.Trim(number, "0123456789.") != "" {
		return bad
	}
	n, ok := new(big.Rat).SetString(number)
	if !ok {
		return bad
	}
	n.Mul(n, new(big.Rat).SetInt64(unit))
	if !n.IsInt() {
		return fmt.Errorf("%q is not a whole number of bytes", s)
	}
	if !n.Num().IsInt64() {
		return fmt.Errorf("%q is more than the largest size, %d bytes", s, int64(math.MaxInt64))
	}
	*b = Bytes(n.Num().Int64())
	return nil
}

func cutSuffixFold(s, suffix string) (string, bool) {
	cut := len(s) - len(suffix)
	if cut < 0 || !strings.EqualFold(s[cut:], suffix) {
		return s, false
	}
	return s[:cut], true
}

// Duration is a length of time, written "250ms", "5s", "1h30m" or, in whole
// days of 24 hours, "90d".
type Duration time.Duration

// String returns the duration without trailing zero parts: "1h", not "1h0m0s".
func (d Duration) String() string {
	const day = 24 * time.Hour
	t := time.Duration(d)
	if t != 0 && t%day == 0 {
		return fmt.Sprintf("%dd", t/day)
	}
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Set and Type make it a flag of a command line.
func (d *Duration) Set(s string) error { return d.UnmarshalText([]byte(s)) }

// Type is what a command's help calls such a value.
func (d *Duration) Type() string { return "duration" }

// MarshalText returns what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration. A number without a unit is refused, except 0.
func (d *Duration) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseInt(days, 10, 64)
		const limit = int64(math.MaxInt64 / (24 * time.Hour))
		if err == nil && n >= -limit && n <= limit {
			*d = Duration(time.Duration(n) * 24 * time.Hour)
			return nil
		}
	}
	t, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration; write a number with a unit, for example 250ms, 5s, 1h30m or 90d", s)
	}
	*d = Duration(t)
	return nil
}
