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

func TestATypeIsTheSameInTheFacilitysOwnSchema(t *testing.T) {
	t.Parallel()
	place := func(schema string) string { return "la_" + schema }
	for _, c := range []struct {
		facility, region string
		want             bool
	}{
		{"integer", "integer", true},
		{"integer", "bigint", false},
		{"public.mood", "public.mood", true},
		{"public.mood", "la_public.mood", true},
		{"public.mood[]", "la_public.mood[]", true},
		{"public.mood", "la_public.mood[]", false},
		{"public.mood", "ny_public.mood", false},
		{"la_public.mood", "public.mood", false},
		{`"S p".mood`, `"la_S p".mood`, true},
		{`"S ""p."."Mo.od"`, `"la_S ""p."."Mo.od"`, true},
		{`"S p"."mood"`, `"la_S p".mood`, false},
		{"public.geometry(Point,4326)", "la_public.geometry(Point,4326)", true},
		{"text", "la_public.text", false},
		{"timestamp(3) without time zone", "la_public.x", false},
	} {
		if got := SameType(c.facility, c.region, place); got != c.want {
			t.Errorf("%s and %s: %t", c.facility, c.region, got)
		}
	}
}
