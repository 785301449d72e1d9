package workspace

import (
	"strings"
	"testing"
	"time"
)

func FuzzDecimal(f *testing.F) {
	for _, s := range []string{"1", "-2.5", "0,125", "1e3", "", "-", ".5", "5.", "٣", "1.2345", "999999999", "--1", "+1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := decimal(s)
		if !ok {
			return
		}
		whole, frac, _ := strings.Cut(strings.TrimPrefix(d, "-"), ".")
		if whole == "" || len(whole) > 9 || len(frac) > 3 || strings.Trim(whole+frac, "0123456789") != "" {
			t.Fatalf("%q became %q", s, d)
		}
	})
}

func FuzzOrderForm(f *testing.F) {
	f.Add("Acme", "Box", "12", "2026-11-30", "note")
	f.Fuzz(func(t *testing.T, customer, product, quantity, due, notes string) {
		o, wrong := orderForm{Customer: customer, Product: product, Quantity: quantity, DueDate: due, Notes: notes}.trimmed().check()
		if len(wrong) == 0 && (o.Customer == "" || o.Product == "" || o.Quantity < 1 || strings.ContainsRune(o.Notes, 0)) {
			t.Fatalf("accepted %+v", o)
		}
	})
}

func TestOrderNumbersAreReadable(t *testing.T) {
	t.Parallel()
	n := orderNumber("la", keyID("la", "order", "x"), time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC))
	if !strings.HasPrefix(n, "LA-1123-") || len(n) != 13 {
		t.Error(n)
	}
}
