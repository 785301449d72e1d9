package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
)

func (a *app) tablesCmd() *cobra.Command {
	cmd := group("tables", "Which tables are synced", a.tablesAdd(), a.tablesRemove(), a.tablesList())
	cmd.Aliases = []string{"table"}
	return cmd
}

func (a *app) tablesAdd() *cobra.Command {
	var in v1.TableAdd
	var column string
	cmd := &cobra.Command{
		Use: "add TABLE --class fact|event|master", Short: "Sync a table", Args: takes(1),
		Long: `Sync a table. It must exist in the region's database and at the facilities.

The class says whose rows they are. A fact table's rows belong to one facility
each and may be changed there and in the region; an event table's are only added,
at the facility; a master table's are changed in the region alone, and the
facilities read them.

When both sides changed the same row of a fact table without knowing of each
other, --policy says whose version stands: the edge's (the default), the cloud's,
or each its own columns.

TABLE is written as in SQL: public.orders, or 'sales."Order Lines"' where case
or blanks matter; without a schema it is public.

A table that cannot be synced is refused, with everything that is wrong and
what to do about each; --dry-run only looks.`,
		Example: `  holdfastctl tables add public.orders --class fact
  holdfastctl tables add public.inventory_transactions --class event
  holdfastctl tables add public.customers --class master
  holdfastctl tables add public.products --class master --tenant-column tenant
  holdfastctl tables add public.orders --class fact --policy columns --cloud-columns price,discount
  holdfastctl tables add erp.customer --class fact --region-schema '{facility}_{schema}' --dry-run`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if in.Class == "" {
				return usageError{hint.Wrap(errors.New("--class is not given"), "Say --class fact for rows that change, --class event for rows that are only added, or --class master for rows that the region changes and the facilities read.")}
			}
			if err := errors.Join(oneOf("--class", in.Class, "fact", "event", "master"), oneOf("--policy", in.Policy, "edge", "cloud", "columns")); err != nil {
				return err
			}
			var err error
			if in.Schema, in.Table, err = parseTable(args[0]); err != nil {
				return usageError{err}
			}
			if cmd.Flags().Changed("facility-column") {
				in.FacilityColumn = &column
			}
			cl, err := a.client()
			if err != nil {
				return err
			}
			added, err := cl.AddTable(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.show(added, func() error { a.printAdded(added); return nil })
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.Class, "class", "", "fact (rows that change, each owned by one facility), event (rows that are only added) or master (rows that the region changes)")
	f.StringVar(&column, "facility-column", "", "column that holds the facility's id (default facility_id)")
	f.StringVar(&in.RegionSchema, "region-schema", "", "schema in the region, with {schema} and {facility} (default {schema})")
	f.StringVar(&in.Policy, "policy", "", "whose version of a fact row stands in a conflict: edge, cloud or columns (default edge)")
	f.StringSliceVar(&in.CloudColumns, "cloud-columns", nil, "the cloud's columns, with --policy columns; all others are the edge's")
	f.StringVar(&in.TenantColumn, "tenant-column", "", "column of a master table that holds the tenant (default none: every facility gets all rows)")
	f.BoolVar(&in.DryRun, "dry-run", false, "only check")
	return cmd
}

func (a *app) printAdded(added v1.TableAdded) {
	t := added.Table
	verb := "Added"
	if added.DryRun {
		verb = "Could add"
	}
	if t.Class == "master" {
		a.printf("%s %s as master table; its rows go from the region to the facilities, where they can only be read.\n", verb, tableName(t.Schema, t.Table))
	} else {
		a.printf("%s %s as %s table; its rows go to schema %s of the region.\n", verb, tableName(t.Schema, t.Table), t.Class, regionSchema(t))
	}
	for _, w := range added.Warnings {
		a.printf("%s %s\n", a.paint(a.out)(yellow, "note:"), w)
	}
	switch {
	case added.DryRun:
	case t.Class == "master":
		a.printf("The facilities get the rows there are now, and then every change. See: holdfastctl tables list\n")
	default:
		a.printf("The facilities send the rows they have now, and then every change. See: holdfastctl tables list\n")
	}
}

func (a *app) tablesRemove() *cobra.Command {
	return a.dangerous("remove TABLE", "Stop syncing a table",
		"Stop syncing a table. Its rows stay where they are, on both sides. Adding it again loads them anew.",
		"Changes of %s will no longer reach the other side. Its rows stay where they are.",
		func(cmd *cobra.Command, cl *v1.Client, name string) error {
			schema, table, err := parseTable(name)
			if err != nil {
				return usageError{err}
			}
			if err := cl.RemoveTable(cmd.Context(), schema, table); err != nil {
				return err
			}
			return a.show(map[string]string{"schema": schema, "table": table}, func() error {
				a.printf("%s is no longer synced.\n", tableName(schema, table))
				return nil
			})
		})
}

func (a *app) tablesList() *cobra.Command {
	facility, system := "", false
	cmd := &cobra.Command{
		Use: "list", Short: "Synced tables, with their state at each facility", Aliases: []string{"ls"}, Args: takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := a.client()
			if err != nil {
				return err
			}
			read := cl.Tables
			if system {
				read = cl.AllTables
			}
			list, err := read(cmd.Context(), facility)
			if err != nil {
				return err
			}
			return a.show(append([]v1.Table{}, list...), func() error { a.printTables(list); return nil })
		},
	}
	cmd.Flags().StringVar(&facility, "facility", "", "show the states at this facility only")
	cmd.Flags().BoolVar(&system, "system", false, "show Holdfast's own tables too")
	return cmd
}

func (a *app) printTables(list []v1.Table) {
	if len(list) == 0 {
		a.printf("No tables are synced. Add one with: holdfastctl tables add public.orders --class fact\n")
		return
	}
	var rows [][]cell
	for _, t := range list {
		name, class, place := tableName(t.Schema, t.Table), classAndPolicy(t), regionSchema(t)
		if len(t.Facilities) == 0 {
			rows = append(rows, []cell{c(name), c(class), c(place), c("–"), c("–"), c(""), c(""), c("")})
		}
		for _, at := range t.Facilities {
			at.Class = t.Class // also of a region that does not say it at each facility
			rows = append(rows, []cell{c(name), c(class), c(place), c(at.Facility), tableStateCell(at.State), c(count(at.Changes)), a.verifiedCell(at), problemCell(at)})
			name, class, place = "", "", ""
		}
	}
	a.table(a.out, []string{"TABLE", "CLASS", "REGION SCHEMA", "FACILITY", "STATE", "CHANGES", "VERIFIED", "PROBLEM"}, rows)
	for _, t := range list {
		a.printDifferences(t.Facilities)
	}
}

// classAndPolicy names the policy too where it is not the usual one.
func classAndPolicy(t v1.Table) string {
	switch t.Policy {
	case "cloud":
		return t.Class + ", cloud wins"
	case "columns":
		return t.Class + ", cloud owns " + strings.Join(t.CloudColumns, ", ")
	}
	return t.Class
}

// regionSchema is where a table's rows are in the region; {facility} stays
// where each facility has a schema of its own.
func regionSchema(t v1.Table) string {
	return strings.ReplaceAll(t.RegionSchema, "{schema}", t.Schema)
}

// tableName writes a name as SQL would need it, and parseTable reads it.
func tableName(schema, table string) string { return quoteName(schema) + "." + quoteName(table) }

func quoteName(s string) string {
	for i, r := range s {
		if (r >= 'a' && r <= 'z') || r == '_' || (i > 0 && r >= '0' && r <= '9') {
			continue
		}
		return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
	}
	return s
}

var errTableName = errors.New("is not a table's name")

// parseTable reads a name by SQL's rules: what is not in double quotes is
// folded to small letters.
func parseTable(s string) (schema, table string, err error) {
	advice := func(err error) error {
		return hint.Wrap(fmt.Errorf("%q %w", s, err), `Write it as public.orders, or 'sales."Order Lines"' where case or blanks matter.`)
	}
	first, rest, err := parseName(s)
	if err != nil {
		return "", "", advice(err)
	}
	if rest == "" {
		return "public", first, nil
	}
	if rest[0] != '.' {
		return "", "", advice(errTableName)
	}
	second, rest, err := parseName(rest[1:])
	if err != nil || rest != "" {
		return "", "", advice(errTableName)
	}
	return first, second, nil
}

// parseName takes one name off the front of s.
func parseName(s string) (name, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, `."`)
		if end < 0 {
			end = len(s)
		}
		if end == 0 || strings.ContainsAny(s[:end], " \t\n") {
			return "", "", errTableName
		}
		return strings.ToLower(s[:end]), s[end:], nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '"' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			b.WriteByte('"')
			i++
			continue
		}
		if b.Len() == 0 {
			return "", "", errTableName
		}
		return b.String(), s[i+1:], nil
	}
	return "", "", errTableName
}
