package fleet

import (
	"math"
	"math/bits"
)

// figure is a number in two bytes, for what is kept thousands of times and looked
// at on a chart: exact below 2,048, and off by less than half a thousandth above.
// It is a small floating point number, ten bits behind six of an exponent, and
// holds the largest numbers there are.
type figure uint16

// figureBits are the leading bits of a number that are kept.
const figureBits = 11

func newFigure(n uint64) figure {
	shift := bits.Len64(n) - figureBits
	if shift <= 0 {
		return figure(n)
	}
	// Rounding up may yield one bit more: it goes into the exponent, where it belongs.
	return figure(uint64(shift)<<(figureBits-1) + n>>shift + n>>(shift-1)&1)
}

func (f figure) value() uint64 {
	const one = 1 << (figureBits - 1)
	if f < 2*one {
		return uint64(f)
	}
	shift := f/one - 1
	if shift > 64-figureBits {
		return math.MaxUint64 // the largest numbers are rounded up to one more
	}
	return uint64(f%one+one) << shift
}
