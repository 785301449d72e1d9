package schema

import "testing"

func TestWhatWidens(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"smallint", "integer", true},
		{"integer", "smallint", false},
		{"bigint", "numeric", true},
		{"bigint", "numeric(10,0)", false},
		{"character varying(5)", "character varying(5)", true},
		{"character varying(5)", "character varying(4)", false},
		{"character varying", "character varying(400)", false},
		{"text", "character varying", true},
		{"character(5)", "text", false}, // its blanks are padding
		{"numeric(5,2)", "numeric(7,2)", true},
		{"numeric", "numeric(7,2)", false},
		{"timestamp(3) without time zone", "timestamp without time zone", true},
		{"timestamp without time zone", "timestamp(3) without time zone", false},
		{"date", "timestamp without time zone", false},
		{"integer[]", "bigint[]", false},
		{"json", "jsonb", false},
		{"bit varying(3)", "bit varying(5)", true},
	} {
		if got := Widens(ShortType(c.from), ShortType(c.to)); got != c.want {
			t.Errorf("%s to %s widens: %t", c.from, c.to, got)
		}
	}
}
