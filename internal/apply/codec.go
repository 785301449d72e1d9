package apply

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
)

// Values arrive as text, which PostgreSQL must parse; for the common types it
// is cheaper to do that here and to send them in binary. A value that a codec
// does not know (a year BC, say) sends its whole batch as text instead.

// codec appends v's binary form to dst, or reports that it cannot.
type codec func(dst, v []byte) ([]byte, bool)

// binaryType is a built-in type whose values can be sent in binary.
type binaryType struct {
	oid    uint32
	encode codec
}

// binaryTypes by format_type's name.
var binaryTypes = map[string]binaryType{
	"boolean":                     {16, encodeBool},
	"bytea":                       {17, encodeBytea},
	"bigint":                      {20, encodeInt64},
	"smallint":                    {21, encodeInt16},
	"integer":                     {23, encodeInt32},
	"text":                        {25, encodeText},
	"oid":                         {26, encodeOID},
	"json":                        {114, encodeText},
	"real":                        {700, encodeFloat32},
	"double precision":            {701, encodeFloat64},
	"bpchar":                      {1042, encodeText},
	"character":                   {1042, encodeText},
	"character varying":           {1043, encodeText},
	"date":                        {1082, encodeDate},
	"timestamp without time zone": {1114, encodeTimestamp},
	"timestamp with time zone":    {1184, encodeTimestampTZ},
	"numeric":                     {1700, encodeNumeric},
	"uuid":                        {2950, encodeUUID},
	"jsonb":                       {3802, encodeJSONB},
}

func encodeText(dst, v []byte) ([]byte, bool) { return append(dst, v...), true }

func encodeJSONB(dst, v []byte) ([]byte, bool) { return append(append(dst, 1), v...), true }

func encodeBool(dst, v []byte) ([]byte, bool) {
	if len(v) != 1 || v[0] != 't' && v[0] != 'f' {
		return dst, false
	}
	if v[0] == 't' {
		return append(dst, 1), true
	}
	return append(dst, 0), true
}

func encodeInt16(dst, v []byte) ([]byte, bool) {
	n, ok := parseInt(v, math.MinInt16, math.MaxInt16)
	return binary.BigEndian.AppendUint16(dst, uint16(n)), ok
}

func encodeInt32(dst, v []byte) ([]byte, bool) {
	n, ok := parseInt(v, math.MinInt32, math.MaxInt32)
	return binary.BigEndian.AppendUint32(dst, uint32(n)), ok
}

func encodeInt64(dst, v []byte) ([]byte, bool) {
	n, ok := parseInt(v, math.MinInt64, math.MaxInt64)
	return binary.BigEndian.AppendUint64(dst, uint64(n)), ok
}

func encodeOID(dst, v []byte) ([]byte, bool) {
	n, ok := parseInt(v, 0, math.MaxUint32)
	return binary.BigEndian.AppendUint32(dst, uint32(n)), ok
}

func parseInt(v []byte, lo, hi int64) (int64, bool) {
	if len(v) > 18 {
		n, err := strconv.ParseInt(string(v), 10, 64)
		return n, err == nil && n >= lo && n <= hi
	}
	i, negative := 0, len(v) > 0 && v[0] == '-'
	if negative {
		i = 1
	}
	if i == len(v) {
		return 0, false
	}
	var n int64
	for ; i < len(v); i++ {
		d := v[i] - '0'
		if d > 9 {
			return 0, false
		}
		n = n*10 + int64(d)
	}
	if negative {
		n = -n
	}
	return n, n >= lo && n <= hi
}

// encodeFloat32 and encodeFloat64 read the shortest text that is exact, which
// is what extra_float_digits 3 writes; strconv knows the same special names.
func encodeFloat32(dst, v []byte) ([]byte, bool) {
	f, err := strconv.ParseFloat(string(v), 32)
	return binary.BigEndian.AppendUint32(dst, math.Float32bits(float32(f))), err == nil
}

func encodeFloat64(dst, v []byte) ([]byte, bool) {
	f, err := strconv.ParseFloat(string(v), 64)
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(f)), err == nil
}

func encodeBytea(dst, v []byte) ([]byte, bool) {
	if len(v) < 2 || v[0] != '\\' || v[1] != 'x' {
		return dst, false
	}
	out, err := hex.AppendDecode(dst, v[2:])
	return out, err == nil
}

func encodeUUID(dst, v []byte) ([]byte, bool) {
	if len(v) != 36 || v[8] != '-' || v[13] != '-' || v[18] != '-' || v[23] != '-' {
		return dst, false
	}
	for _, i := range [16]byte{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34} {
		hi, lo := hexDigit[v[i]], hexDigit[v[i+1]]
		if hi|lo > 15 {
			return dst, false
		}
		dst = append(dst, hi<<4|lo)
	}
	return dst, true
}

var hexDigit = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range byte(10) {
		t['0'+i] = i
	}
	for i := range byte(6) {
		t['a'+i], t['A'+i] = 10+i, 10+i
	}
	return t
}()

// encodeNumeric writes groups of four decimal digits, as PostgreSQL keeps them.
func encodeNumeric(dst, v []byte) ([]byte, bool) {
	const negative, nan, infinity, minusInfinity = 0x4000, 0xC000, 0xD000, 0xF000
	special := func(sign uint16) ([]byte, bool) {
		return append(binary.BigEndian.AppendUint16(append(dst, 0, 0, 0, 0), sign), 0, 0), true
	}
	switch string(v) {
	case "NaN":
		return special(nan)
	case "Infinity":
		return special(infinity)
	case "-Infinity":
		return special(minusInfinity)
	}
	sign := uint16(0)
	if len(v) > 0 && v[0] == '-' {
		sign, v = negative, v[1:]
	}
	whole, frac := v, []byte(nil)
	for i, c := range v {
		if c == '.' {
			whole, frac = v[:i], v[i+1:]
			break
		}
	}
	if len(whole) == 0 || len(whole) > 1000 || len(frac) > 1000 {
		return dst, false
	}
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	groups, first, last := 0, -1, -1
	group := func(n uint16) {
		if n != 0 && first < 0 {
			first = groups
		}
		if first >= 0 {
			dst = binary.BigEndian.AppendUint16(dst, n)
		}
		if n != 0 {
			last = groups
		}
		groups++
	}
	digits := func(s []byte, pad int) bool { // of one group; pad zeros behind
		n := uint16(0)
		for _, c := range s {
			if c < '0' || c > '9' {
				return false
			}
			n = n*10 + uint16(c-'0')
		}
		for range pad {
			n *= 10
		}
		group(n)
		return true
	}
	head := (len(whole)-1)%4 + 1
	if !digits(whole[:head], 0) {
		return dst, false
	}
	for i := head; i < len(whole); i += 4 {
		if !digits(whole[i:i+4], 0) {
			return dst, false
		}
	}
	wholeGroups := groups
	for i := 0; i < len(frac); i += 4 {
		end := min(i+4, len(frac))
		if !digits(frac[i:end], 4-(end-i)) {
			return dst, false
		}
	}
	n, weight := 0, 0
	if first >= 0 {
		n, weight = last-first+1, wholeGroups-1-first
		dst = dst[:start+8+2*n] // without the zeros behind the last
	} else {
		sign = 0
	}
	binary.BigEndian.PutUint16(dst[start:], uint16(n))
	binary.BigEndian.PutUint16(dst[start+2:], uint16(int16(weight)))
	binary.BigEndian.PutUint16(dst[start+4:], sign)
	binary.BigEndian.PutUint16(dst[start+6:], uint16(len(frac)))
	return dst, true
}

// Days from 1970-01-01 to 2000-01-01, where PostgreSQL begins to count.
const pgEpochDays = 10957

func encodeDate(dst, v []byte) ([]byte, bool) {
	days, ok := parseDate(v)
	return binary.BigEndian.AppendUint32(dst, uint32(int32(days))), ok
}

func encodeTimestamp(dst, v []byte) ([]byte, bool) {
	us, rest, ok := parseTimestamp(v)
	return binary.BigEndian.AppendUint64(dst, uint64(us)), ok && len(rest) == 0
}

// encodeTimestampTZ takes UTC, which is the time zone of every session here.
func encodeTimestampTZ(dst, v []byte) ([]byte, bool) {
	us, rest, ok := parseTimestamp(v)
	return binary.BigEndian.AppendUint64(dst, uint64(us)), ok && string(rest) == "+00"
}

// parseTimestamp reads YYYY-MM-DD HH:MM:SS[.ffffff] into microseconds.
func parseTimestamp(v []byte) (us int64, rest []byte, ok bool) {
	if len(v) < 19 || v[10] != ' ' || v[13] != ':' || v[16] != ':' {
		return 0, nil, false
	}
	days, ok1 := parseDate(v[:10])
	h, ok2 := twoDigits(v[11:])
	m, ok3 := twoDigits(v[14:])
	s, ok4 := twoDigits(v[17:])
	if !ok1 || !ok2 || !ok3 || !ok4 || h > 23 || m > 59 || s > 59 {
		return 0, nil, false
	}
	us = ((int64(days)*24+int64(h))*60+int64(m))*60 + int64(s)
	us *= 1_000_000
	rest = v[19:]
	if len(rest) > 0 && rest[0] == '.' {
		unit := int64(100_000)
		rest = rest[1:]
		for len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9' {
			us += int64(rest[0]-'0') * unit
			unit /= 10
			rest = rest[1:]
		}
	}
	return us, rest, true
}

// parseDate reads YYYY-MM-DD into days since 2000-01-01.
func parseDate(v []byte) (int, bool) {
	if len(v) != 10 || v[4] != '-' || v[7] != '-' {
		return 0, false
	}
	y1, ok1 := twoDigits(v)
	y2, ok2 := twoDigits(v[2:])
	m, ok3 := twoDigits(v[5:])
	d, ok4 := twoDigits(v[8:])
	if !ok1 || !ok2 || !ok3 || !ok4 || m < 1 || m > 12 || d < 1 || d > 31 {
		return 0, false
	}
	// Days from the civil calendar, with years that begin in March.
	y := y1*100 + y2
	if m <= 2 {
		y--
		m += 12
	}
	era := y / 400
	yoe := y - era*400
	doy := (153*(m-3)+2)/5 + d - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return era*146097 + doe - 719468 - pgEpochDays, y >= 0
}

func twoDigits(v []byte) (int, bool) {
	a, b := v[0]-'0', v[1]-'0'
	return int(a)*10 + int(b), a <= 9 && b <= 9
}
