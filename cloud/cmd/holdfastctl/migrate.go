package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	v1 "github.com/agogsaas/holdfast/cloud/api/v1"
	"github.com/agogsaas/holdfast/internal/hint"
	"github.com/agogsaas/holdfast/internal/schema/ddl"
)

// migrationMaxBytes bounds one file that is checked.
const migrationMaxBytes = 16 << 20

// migrateReport is what migrate check prints with --json.
type migrateReport struct {
	Safe bool `json:"safe"`
	// Known says where the list of synced tables came from: the region, or
	// nowhere, so that every table counts as synced.
	Known    string        `json:"known"`
	Findings []ddl.Finding `json:"findings"`
}

func (a *app) migrateCmd() *cobra.Command {
	return group("migrate", "Change tables while the fleet runs", a.migrateCheck())
}

func (a *app) migrateCheck() *cobra.Command {
	var offline, quietly bool
	var base []string
	cmd := &cobra.Command{
		Use: "check FILE...", Short: "Tell whether migrations are safe for a fleet", Args: takesAtLeast(1),
		Long: `Tell whether migrations are safe for a fleet, where the region and the
facilities never change at the same moment. Each statement that is not comes
with steps that reach the same end safely, and with the side that goes first.

FILE is SQL, with or without goose's annotations (what is below "-- +goose Down"
is left out); - is standard input. Nothing is run.

Which tables are synced, and their columns, the region is asked. With --offline,
or when it does not answer, every table that the files do not make counts as synced.
--base names files that were carried out long ago: they tell the columns' types.

Exit codes: 0 all is safe, 1 something is not or cannot be told, 2 a file cannot be read.`,
		Example: `  holdfastctl migrate check 0042_discount.sql
  holdfastctl migrate check --offline --base schema.sql 0042_discount.sql`,
		RunE: func(cmd *cobra.Command, args []string) error {
			checker, known := a.checker(cmd.Context(), offline)
			for _, name := range base {
				sql, err := a.readSQL(name)
				if err == nil {
					err = checker.Learn(sql)
				}
				if err != nil {
					return unreadable(name, err)
				}
			}
			report := migrateReport{Safe: true, Known: known, Findings: []ddl.Finding{}}
			for _, name := range args {
				sql, err := a.readSQL(name)
				if err != nil {
					return unreadable(name, err)
				}
				found, err := checker.Check(sql)
				if err != nil {
					return unreadable(name, err)
				}
				for _, f := range found {
					f.File = name
					report.Safe = report.Safe && f.Verdict == ddl.Safe
					report.Findings = append(report.Findings, f)
				}
			}
			if err := a.show(report, func() error { a.printFindings(report, quietly); return nil }); err != nil {
				return err
			}
			return report.verdict()
		},
	}
	f := cmd.Flags()
	f.BoolVar(&offline, "offline", false, "ask no region; every table counts as synced")
	f.BoolVarP(&quietly, "quiet", "q", false, "do not print what is safe")
	f.StringArrayVar(&base, "base", nil, "file that was carried out before, for the columns' types; may be repeated")
	return cmd
}

func unreadable(name string, err error) error {
	err = fmt.Errorf("cannot read %s: %w", name, err)
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return usageError{hint.Wrap(err, "Name a file of SQL, or - for standard input.")}
	}
	return usageError{hint.Wrap(err, "It must be SQL that PostgreSQL takes: no psql commands, no templates, no data of COPY.")}
}

func (a *app) readSQL(name string) (string, error) {
	in := a.in
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer file.Close()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, migrationMaxBytes+1))
	if err == nil && len(text) > migrationMaxBytes {
		err = fmt.Errorf("it is longer than %s", size(migrationMaxBytes))
	}
	return string(text), err
}

// checker knows the region's tables, when there is a region that answers.
func (a *app) checker(ctx context.Context, offline bool) (c *ddl.Checker, known string) {
	if offline {
		return ddl.New(nil, true), "nothing"
	}
	cl, err := a.client()
	var list []v1.Table
	if err == nil {
		list, err = cl.Tables(ctx, "")
	}
	if err != nil {
		what, _ := explain(err)
		fmt.Fprintf(a.err, "%s the region was not asked (%s): every table counts as synced\n", a.paint(a.err)(yellow, "note:"), what)
		return ddl.New(nil, true), "nothing"
	}
	tables := make(map[string]ddl.Table, len(list))
	for _, t := range list {
		one := ddl.Table{Class: t.Class, FacilityColumn: t.FacilityColumn, Types: map[string]string{}}
		for _, col := range t.Columns {
			one.Types[col.Name] = col.Type
		}
		tables[t.Schema+"."+t.Table] = one
	}
	return ddl.New(tables, false), "region"
}

func (r migrateReport) verdict() error {
	unsafe, unknown := 0, 0
	for _, f := range r.Findings {
		switch f.Verdict {
		case ddl.Unsafe:
			unsafe++
		case ddl.Unknown:
			unknown++
		}
	}
	switch {
	case unsafe > 0:
		return hint.Wrap(fmt.Errorf("%s not safe for a fleet", plural(unsafe, "command is", "commands are")), "Take the steps above instead, each when the one before is done everywhere.")
	case unknown > 0:
		return hint.Wrap(fmt.Errorf("of %s it cannot be told whether they are safe", plural(unknown, "command", "commands")), "Read them yourself, by the rules in docs/tables.md.")
	}
	return nil
}

func (a *app) printFindings(r migrateReport, quietly bool) {
	paint := a.paint(a.out)
	colours := map[ddl.Verdict]string{ddl.Safe: green, ddl.Unsafe: red, ddl.Unknown: yellow}
	for _, f := range r.Findings {
		if quietly && f.Verdict == ddl.Safe {
			continue
		}
		a.printf("%s:%d:%d: %s: %s\n", f.File, f.Line, f.Column, paint(colours[f.Verdict], string(f.Verdict)), f.What)
		if f.Verdict == ddl.Safe {
			continue
		}
		a.printf("  %s\n", paint(grey, f.Statement))
		for i, s := range f.Recipe {
			where := map[string]string{
				ddl.Region: "Region: ", ddl.Facilities: "Each facility: ", ddl.Both: "Both sides, in any order: ", ddl.People: "",
			}[s.Where]
			a.printf("  %d. %s%s\n", i+1, where, s.What)
			if s.SQL != "" {
				a.printf("       %s\n", strings.ReplaceAll(s.SQL, "\n", "\n       "))
			}
		}
	}
	if r.Safe && len(r.Findings) > 0 {
		a.printf("%s: %s, all safe for a fleet.\n", paint(green, "safe"), plural(len(r.Findings), "command", "commands"))
	}
	if len(r.Findings) == 0 {
		a.printf("There is no statement.\n")
	}
}
