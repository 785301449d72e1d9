// Package pgcluster runs a PostgreSQL cluster of Holdfast's own: it finds the
// programs, makes the data directory, configures, starts, adopts, watches and
// stops the server, and makes the roles and databases. It also checks a
// cluster that somebody else runs.
//
// In:  edge/postgres and the region's composition root.
// Out: the PostgreSQL server itself, to which capture and apply connect.
package pgcluster
