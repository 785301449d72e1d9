package fleet

import (
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"
)

func TestFiguresAreOffByLessThanAThousandth(t *testing.T) {
	t.Parallel()
	check := func(n uint64) {
		t.Helper()
		got := newFigure(n).value()
		if n < 2048 && got != n {
			t.Fatalf("%d became %d", n, got)
		}
		if off := math.Abs(float64(got)-float64(n)) / max(1, float64(n)); off > 0.0005 {
			t.Fatalf("%d became %d, off by %.2g", n, got, off)
		}
	}
	for n := range uint64(1 << 17) {
		check(n)
	}
	for bit := range 64 {
		for _, n := range []uint64{1<<bit - 1, 1 << bit, 1<<bit + 1, 1<<bit + 1<<bit/2, math.MaxUint64 - 1<<bit, math.MaxUint64 >> bit} {
			check(n)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 1_000_000 {
		check(random.Uint64() >> random.UintN(64))
	}
}

func TestLargerFiguresAreNeverSmaller(t *testing.T) {
	t.Parallel()
	most := newFigure(math.MaxUint64)
	for f := range most {
		if a, b := f.value(), (f + 1).value(); a >= b {
			t.Fatalf("%d and %d behind each other", a, b)
		}
		if again := newFigure(f.value()); again != f {
			t.Fatalf("%d became %d when it was kept again", f, again)
		}
	}
	if most.value() != math.MaxUint64 {
		t.Errorf("the largest number became %d", most.value())
	}
}

// Of nineteen thousand facilities the histories must leave room for the rest.
func TestAnHourOfAFacilityTakesLessThanSixKilobytes(t *testing.T) {
	t.Parallel()
	if size := historyKept * unsafe.Sizeof(sample{}); size > 6000 {
		t.Errorf("it takes %d bytes", size)
	}
}
