package apitest

import (
	"testing"
)

// Park makes two orders of facility la wait: one whose name another row has,
// with a later version behind it. It returns their ids. The facility must exist.
func (s *Server) Park(t testing.TB) (first, behind int64) {
	t.Helper()
	_, err := s.DB.Exec(t.Context(), `
		CREATE TABLE public.orders (id int PRIMARY KEY, facility_id text NOT NULL, name text UNIQUE, note text, amount int);
		INSERT INTO public.orders VALUES (1, 'sf', 'bolt', 'theirs');
		INSERT INTO holdfast.synced_table (schema_name, table_name, class, facility_column, added_by) VALUES ('public', 'orders', 'fact', 'facility_id', 'test');
		SELECT pg_notify('holdfast_synced_table', nextval('holdfast.synced_table_version')::text);
		INSERT INTO holdfast.position (facility, epoch, seq) VALUES ('la', 4294967296, 9)`)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.tables.Refresh(t.Context()); err != nil { // do not wait for the notice
		t.Fatal(err)
	}
	park := func(seq int, op, note, reason string) (id int64) {
		err := s.DB.QueryRow(t.Context(), `INSERT INTO holdfast.parked (facility, direction, epoch, seq, schema_name, table_name, key, key_hash,
			op, row, columns, bytes, commit_at, reason, code, constraint_name, message, remedy, tried_at)
			VALUES ('la', 'up', 4294967296, $1, 'public', 'orders', '{"id": "2"}', '\x00112233445566778899aabbccddeeff', $2,
			jsonb_build_object('id', '2', 'facility_id', 'la', 'name', 'bolt', 'note', $3::text, 'amount', '5'),
			'[{"name":"id","type":"integer","key":true},{"name":"facility_id","type":"text"},{"name":"name","type":"text"},{"name":"note","type":"text"},{"name":"amount","type":"integer"}]',
			20, now(), $4, '23505', 'orders_name_key', 'duplicate key value violates unique constraint', 'Change one of the two.', now())
			RETURNING id`, seq, op, note, reason).Scan(&id)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	return park(8, "insert", "mine", "unique"), park(9, "update", "mine, later", "behind")
}
