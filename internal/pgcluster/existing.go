package pgcluster

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A cluster that somebody else runs is used as it is: Check says everything
// that stands against it at once, and how each is put right.

// Existing names a cluster that Holdfast does not manage, by connection
// strings. Passwords belong in a password file (passfile=…).
type Existing struct {
	Owner   string // makes Holdfast's schema, registers tables; required
	Capture string // reads changes; default Owner
	Apply   string // writes changes; default Owner
}

// Problem is one thing that stands against a cluster, and what to do about it.
type Problem struct {
	What   string
	Remedy string
}

func (p Problem) String() string { return p.What + ". " + p.Remedy }

// UnsuitableError lists everything that keeps Holdfast from using a cluster.
type UnsuitableError struct{ Problems []Problem }

func (e *UnsuitableError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the PostgreSQL server cannot be used yet (%d to put right)", len(e.Problems))
	for i, p := range e.Problems {
		fmt.Fprintf(&b, "\n%d. %s", i+1, p)
	}
	return b.String()
}

// Report is what Check learned of a cluster that can be used.
type Report struct {
	Version  string    // as the server gives it
	Warnings []Problem // not in the way, but worth putting right
}

// Check connects with each connection string and returns an *UnsuitableError
// with all problems, or the report of a cluster that can be used.
func (e Existing) Check(ctx context.Context) (Report, error) {
	if e.Capture == "" {
		e.Capture = e.Owner
	}
	if e.Apply == "" {
		e.Apply = e.Owner
	}
	k := &checker{}
	k.with(ctx, "owner", e.Owner, k.server)
	k.with(ctx, "capture", e.Capture, k.capture)
	k.with(ctx, "apply", e.Apply, k.apply)
	if len(k.problems) > 0 {
		return k.report, &UnsuitableError{Problems: k.problems}
	}
	return k.report, nil
}

type checker struct {
	report   Report
	problems []Problem
}

func (k *checker) problem(what, remedy string, args ...any) {
	k.problems = append(k.problems, Problem{What: what, Remedy: fmt.Sprintf(remedy, args...)})
}

func (k *checker) warn(what, remedy string) {
	k.report.Warnings = append(k.report.Warnings, Problem{What: what, Remedy: remedy})
}

// with runs one check over a connection. What fails unforeseen is a problem
// too: nothing is skipped silently.
func (k *checker) with(ctx context.Context, purpose, dsn string, check func(context.Context, *pgx.Conn) error) {
	if dsn == "" {
		k.problem("There is no connection string for "+purpose, "Set it in the configuration.")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 3*probeTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		k.problem(fmt.Sprintf("Cannot connect for %s: %v", purpose, oneLine(err)),
			"Check host, port, database, role and password file of the connection string, and the server's pg_hba.conf.")
		return
	}
	defer conn.Close(ctx)
	if err := check(ctx, conn); err != nil {
		k.problem(fmt.Sprintf("Cannot examine the server for %s: %v", purpose, oneLine(err)), "Put the named cause right and try again.")
	}
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func (k *checker) server(ctx context.Context, conn *pgx.Conn) error {
	var s struct {
		version                           string
		number                            int
		walLevel, checksums, fsync, pages string
		keep, encoding                    string
		recovery, mayCreate               bool
		slots, slotsUsed                  int
	}
	err := conn.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('server_version_num')::int,
		current_setting('wal_level'), current_setting('data_checksums'), current_setting('fsync'),
		current_setting('full_page_writes'), current_setting('max_slot_wal_keep_size'),
		(SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()),
		pg_is_in_recovery(), has_database_privilege(current_database(), 'CREATE'),
		current_setting('max_replication_slots')::int, (SELECT count(*)::int FROM pg_replication_slots)`).
		Scan(&s.version, &s.number, &s.walLevel, &s.checksums, &s.fsync, &s.pages, &s.keep, &s.encoding,
			&s.recovery, &s.mayCreate, &s.slots, &s.slotsUsed)
	if err != nil {
		return fmt.Errorf("read the server's settings: %w", err)
	}
	k.report.Version = s.version
	if s.number < MinMajor*10000 {
		k.problem("The server is PostgreSQL "+s.version, "Upgrade it to version %d or newer.", MinMajor)
	}
	if s.recovery {
		k.problem("The server is a standby and takes no writes", "Connect to the primary.")
	}
	if s.walLevel != "logical" {
		k.problem("wal_level is "+s.walLevel+", so changes cannot be captured",
			"Run ALTER SYSTEM SET wal_level = 'logical' and restart the server.")
	}
	if s.slotsUsed >= s.slots {
		k.problem(fmt.Sprintf("All %d replication slots are in use", s.slots),
			"Drop a slot nobody reads (pg_replication_slots), or raise max_replication_slots to %d and restart the server.", s.slots+2)
	}
	if s.encoding != "UTF8" {
		k.problem("The database's encoding is "+s.encoding, "Use a database that was made with ENCODING 'UTF8'.")
	}
	if !s.mayCreate {
		k.problem("The owner's role may not create a schema or a publication in the database",
			"Run GRANT CREATE ON DATABASE … TO the role of the owner's connection string.")
	}
	if s.fsync != "on" || s.pages != "on" {
		k.problem("fsync or full_page_writes is off: a power cut loses what was committed",
			"Run ALTER SYSTEM SET fsync = on, ALTER SYSTEM SET full_page_writes = on, and SELECT pg_reload_conf().")
	}
	if s.checksums != "on" {
		k.warn("Data checksums are off, so a damaged page is not noticed", "Stop the server and run pg_checksums --enable.")
	}
	if s.keep == "-1" {
		k.warn("max_slot_wal_keep_size is unlimited: a slot nobody reads fills the disk", "Set it to a tenth of the disk.")
	}
	return nil
}

func (k *checker) capture(ctx context.Context, conn *pgx.Conn) error {
	var role string
	var may bool
	var senders, sendersUsed int
	err := conn.QueryRow(ctx, `SELECT current_user, rolsuper OR rolreplication, current_setting('max_wal_senders')::int,
		(SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'walsender')
		FROM pg_roles WHERE rolname = current_user`).Scan(&role, &may, &senders, &sendersUsed)
	if err != nil {
		return fmt.Errorf("read the capture role: %w", err)
	}
	if !may {
		k.problem("Role "+role+" may not stream changes", "Run ALTER ROLE %s REPLICATION.", pgx.Identifier{role}.Sanitize())
	}
	if sendersUsed >= senders {
		k.problem(fmt.Sprintf("All %d WAL senders are in use", senders), "Raise max_wal_senders to %d and restart the server.", senders+2)
	}
	return nil
}

func (k *checker) apply(ctx context.Context, conn *pgx.Conn) error {
	var role string
	if err := conn.QueryRow(ctx, `SELECT current_user`).Scan(&role); err != nil {
		return fmt.Errorf("read the apply role: %w", err)
	}
	// Tried rather than looked up: has_parameter_privilege is not in every
	// supported version, and a superuser needs no grant.
	if _, err := conn.Exec(ctx, `SET session_replication_role = replica`); err != nil {
		k.problem("Role "+role+" may not set session_replication_role, so it could not write the other side's changes without firing triggers",
			"Run GRANT SET ON PARAMETER session_replication_role TO %s as a superuser.", pgx.Identifier{role}.Sanitize())
	}
	return nil
}
