package pgcluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// The roles that Holdfast works with, one for each purpose.
const (
	Owner   = "holdfast"         // owns the database and Holdfast's own schema
	Capture = "holdfast_capture" // reads changes from the WAL, and rows to heal with
	Apply   = "holdfast_apply"   // writes what the other side changed
	App     = "holdfast_app"     // the workspace, or the business's application
	Monitor = "holdfast_monitor" // reads statistics
)

// Database is the usual name of the database that Holdfast works in.
const Database = "holdfast"

// Role is what a login role may do beyond connecting with its password.
type Role struct {
	Name        string
	Replication bool              // may stream changes
	Member      []string          // roles whose rights it has
	MaySet      []string          // superuser settings it may change for itself
	Settings    map[string]string // its sessions' defaults
}

// StandardRoles returns the roles of one cluster, in the order to make them.
func StandardRoles() []Role {
	return []Role{
		{Name: App, Settings: map[string]string{
			// A transaction left open by a stuck client would hold back the WAL.
			"idle_in_transaction_session_timeout": "10min",
		}},
		// The owner is a member of the application's role so that it may
		// publish the application's tables.
		{Name: Owner, Member: []string{App}},
		{Name: Capture, Replication: true, Member: []string{"pg_read_all_data"}},
		{Name: Apply, Member: []string{"pg_read_all_data", "pg_write_all_data"}, MaySet: []string{"session_replication_role"}},
		{Name: Monitor, Member: []string{"pg_monitor"}},
	}
}

// Provision makes the standard roles, the database and in it the schema
// holdfast. It changes nothing that is right already.
func (c *Cluster) Provision(ctx context.Context, database string) error {
	for _, r := range StandardRoles() {
		if err := c.EnsureRole(ctx, r, ""); err != nil {
			return err
		}
	}
	if err := c.EnsureDatabase(ctx, database, Owner); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, c.DSN(Superuser, database))
	if err != nil {
		return fmt.Errorf("connect to database %s: %w", database, err)
	}
	defer conn.Close(ctx)
	if _, err := conn.PgConn().Exec(ctx, grants).ReadAll(); err != nil {
		return fmt.Errorf("grant the roles their rights: %w", err)
	}
	return nil
}

// grants may be run again. Tables that the owner or the application makes
// later are covered by the default privileges and the pg_…_all_data roles.
const grants = `
CREATE SCHEMA IF NOT EXISTS holdfast AUTHORIZATION holdfast;
DO $$ BEGIN -- applications that make a schema or an extension of their own
	EXECUTE format('GRANT CREATE ON DATABASE %I TO holdfast_app', current_database());
END $$;
GRANT USAGE, CREATE ON SCHEMA public TO holdfast_app;
GRANT USAGE ON SCHEMA holdfast TO holdfast_app, holdfast_capture, holdfast_monitor;
GRANT USAGE, CREATE ON SCHEMA holdfast TO holdfast_apply;
ALTER DEFAULT PRIVILEGES FOR ROLE holdfast IN SCHEMA holdfast GRANT ALL ON TABLES TO holdfast_apply;
ALTER DEFAULT PRIVILEGES FOR ROLE holdfast IN SCHEMA holdfast GRANT ALL ON SEQUENCES TO holdfast_apply;
DO $$ BEGIN -- from PostgreSQL 16 on: capture moves its slot on with it
	IF to_regprocedure('pg_catalog.pg_log_standby_snapshot()') IS NOT NULL THEN
		GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() TO holdfast_capture;
	END IF;
END $$;
`

// EnsureRole makes a login role, or brings an existing one to what it should
// be. Its password is the one in passwordFile (default PassFile), which is
// made with a random password when it is missing.
func (c *Cluster) EnsureRole(ctx context.Context, r Role, passwordFile string) error {
	if passwordFile == "" {
		passwordFile = c.PassFile(r.Name)
	}
	password, err := ensurePassword(passwordFile, r.Name)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, c.DSN(Superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("connect to make role %s: %w", r.Name, err)
	}
	defer conn.Close(ctx)
	if err := ensureRole(ctx, conn, r, password); err != nil {
		return fmt.Errorf("make role %s: %w", r.Name, err)
	}
	return nil
}

func ensureRole(ctx context.Context, conn *pgx.Conn, r Role, password string) error {
	var verifier *string
	var replication bool
	err := conn.QueryRow(ctx, `SELECT rolpassword, rolreplication FROM pg_authid WHERE rolname = $1`, r.Name).Scan(&verifier, &replication)
	if errors.Is(err, pgx.ErrNoRows) {
		err = define(ctx, conn, `CREATE ROLE %I LOGIN`, r.Name)
	}
	if err != nil {
		return err
	}
	if verifier == nil || !scramMatches(*verifier, password) {
		v, err := scramVerifier(password)
		if err != nil {
			return err
		}
		if err := define(ctx, conn, `ALTER ROLE %I LOGIN PASSWORD %L`, r.Name, v); err != nil {
			return err
		}
	}
	if replication != r.Replication {
		option := map[bool]string{true: "REPLICATION", false: "NOREPLICATION"}[r.Replication]
		if err := define(ctx, conn, `ALTER ROLE %I `+option, r.Name); err != nil {
			return err
		}
	}
	for _, other := range r.Member {
		if err := define(ctx, conn, `GRANT %I TO %I`, other, r.Name); err != nil {
			return err
		}
	}
	for _, setting := range r.MaySet {
		if err := define(ctx, conn, `GRANT SET ON PARAMETER %I TO %I`, setting, r.Name); err != nil {
			return err
		}
	}
	for setting, value := range r.Settings {
		if err := define(ctx, conn, `ALTER ROLE %I SET %I TO %L`, r.Name, setting, value); err != nil {
			return err
		}
	}
	return nil
}

// define runs a statement that takes no parameters. The server itself quotes
// the names (%I) and values (%L).
func define(ctx context.Context, conn *pgx.Conn, format string, args ...string) error {
	var statement string
	if err := conn.QueryRow(ctx, `SELECT format($1, VARIADIC $2::text[])`, format, args).Scan(&statement); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, statement)
	return err
}

// EnsureDatabase makes a database, UTF-8, that belongs to owner. An existing
// one is given to owner.
func (c *Cluster) EnsureDatabase(ctx context.Context, name, owner string) error {
	conn, err := pgx.Connect(ctx, c.DSN(Superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("connect to make database %s: %w", name, err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1`, name)
	if err != nil {
		return fmt.Errorf("look for database %s: %w", name, err)
	}
	owners, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for database %s: %w", name, err)
	}
	switch {
	case len(owners) == 0:
		err = define(ctx, conn, `CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING 'UTF8'`, name, owner)
	case owners[0] != owner:
		err = define(ctx, conn, `ALTER DATABASE %I OWNER TO %I`, name, owner)
	}
	if err != nil {
		return fmt.Errorf("make database %s: %w", name, err)
	}
	return nil
}
