package apply

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/agogsaas/holdfast/internal/pgtest"
)

// TestBinaryValuesEqualTheirText lets PostgreSQL read both forms.
func TestBinaryValuesEqualTheirText(t *testing.T) {
	t.Parallel()
	values := map[string][]string{
		"boolean": {"t", "f"}, "bytea": {`\x`, `\x00ff5c`}, "bigint": {"0", "-9223372036854775808", "9223372036854775807"},
		"smallint": {"-32768", "32767"}, "integer": {"-2147483648", "2147483647", "0"}, "text": {"", "a\tß\\n"}, "oid": {"0", "4294967295"},
		"json": {`{"a": 1}`}, "jsonb": {`{"a": [1, null]}`}, "real": {"1.1", "-0", "NaN", "Infinity", "1e-45", "3.4028235e+38"},
		"double precision": {"0.1", "-Infinity", "5e-324", "1.7976931348623157e+308"}, "character varying": {"x "}, "bpchar": {"x  "},
		"date":                        {"2000-01-01", "1999-12-31", "2024-02-29", "0001-01-01", "9999-12-31", "1900-03-01"},
		"timestamp without time zone": {"2026-11-23 02:14:05.123456", "1969-12-31 23:59:59.9", "0001-01-01 00:00:00"},
		"timestamp with time zone":    {"2026-11-23 02:14:05+00", "1582-10-15 12:00:00.000001+00"},
		"numeric":                     {"0", "0.00", "1", "-1.50", "10000", "0.0001", "0.00010000", "99999999.99999999", "12345678901234567890.5", "100000000", "NaN", "Infinity", "-Infinity", "0.00001234"},
		"uuid":                        {"00112233-4455-6677-8899-aabbccddeeff"},
	}
	rng := rand.New(rand.NewPCG(7, 7))
	for range 300 {
		values["numeric"] = append(values["numeric"], fmt.Sprintf("%s%d.%0*d", []string{"", "-"}[rng.IntN(2)], rng.Uint64()>>rng.IntN(64), 1+rng.IntN(12), rng.IntN(10)))
		values["double precision"] = append(values["double precision"], fmt.Sprint(math.Float64frombits(rng.Uint64()>>2)))
		at := time.Unix(rng.Int64N(200_000_000_000)-60_000_000_000, rng.Int64N(1000000)*1000).UTC()
		if at.Year() < 10000 && at.Year() > 0 {
			values["timestamp with time zone"] = append(values["timestamp with time zone"], strings.TrimRight(at.Format("2006-01-02 15:04:05.000000"), "0")+"1+00")
			values["date"] = append(values["date"], at.Format("2006-01-02"))
		}
	}
	conn := pgtest.New(t).Conn(t)
	for name, typ := range binaryTypes {
		if name == "character" {
			continue // the same as bpchar
		}
		for _, v := range values[name] {
			b, ok := typ.encode([]byte{}, []byte(v))
			if !ok {
				t.Errorf("%s %s is not encoded", name, v)
				continue
			}
			res := conn.PgConn().ExecParams(context.Background(), "SELECT $1::"+name+"::text = $2::text::"+name+"::text, $1::"+name+"::text",
				[][]byte{b, []byte(v)}, []uint32{typ.oid, 25}, []int16{1, 0}, nil).Read()
			if res.Err != nil || !bytes.Equal(res.Rows[0][0], []byte("t")) {
				t.Errorf("%s %s arrived as %q, %v", name, v, res.Rows, res.Err)
			}
		}
		if len(values[name]) == 0 {
			t.Errorf("no value of %s", name)
		}
	}
}

func FuzzCodecs(f *testing.F) {
	for _, v := range []string{"", "-", "1.", ".5", "2026-13-01", "0000-00-00", "2026-11-23 02:14:05.1234567+00", `\x0`, "00112233-4455-6677-8899-aabbccddee-f"} {
		f.Add([]byte(v))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		for _, typ := range binaryTypes {
			if b, ok := typ.encode([]byte("head"), v); ok && !bytes.HasPrefix(b, []byte("head")) {
				t.Fatalf("%q overwrote what was before it", v)
			}
		}
	})
}
