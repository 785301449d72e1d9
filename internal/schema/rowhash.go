package schema

import (
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// HashColumn is a column of a row that is hashed.
type HashColumn struct {
	Name string
	// Expr is its value as text, or "" for the column t.Name itself.
	Expr string
}

// RowHash returns an SQL expression for eight bytes that depend on every value
// of a row of t: the beginning of the SHA-256 of the columns' texts, ordered by
// name. The binary form of an array, which is PostgreSQL's wire protocol and
// does not change between versions, keeps them apart: each has its length in
// front, NULL is not the empty string, and the encoding is the client's, UTF-8.
// MD5 would be faster and is missing where OpenSSL runs in FIPS mode.
func RowHash(columns []HashColumn) string {
	sorted := slices.SortedFunc(slices.Values(columns), func(a, b HashColumn) int { return strings.Compare(a.Name, b.Name) })
	values := make([]string, len(sorted))
	for i, c := range sorted {
		values[i] = c.Expr
		if c.Expr == "" {
			values[i] = "t." + pgx.Identifier{c.Name}.Sanitize() + "::text"
		}
	}
	return "pg_catalog.substr(pg_catalog.sha256(pg_catalog.array_send(ARRAY[" + strings.Join(values, ", ") + "]::text[])), 1, 8)"
}
