// Package config reads a program's one YAML file strictly, and reports all that
// is wrong with it at once, each with its line and column.
//
// The struct that the file is read into is its only description: `yaml` tags
// name the keys (snake case of the field name by default), `doc` tags are the
// manual that Print writes, and the values that the struct holds before Load
// are the defaults. Structs in it may have a method Validate.
//
// Fields may be strings, booleans, integers, floats, Bytes, Duration,
// time.Duration, anything with UnmarshalText, pointers to, slices of and maps
// from string to these, and structs of them. YAML's anchors, aliases, tags, merge
// keys and several documents in one file are refused: a configuration that
// must be computed by its reader is not readable.
//
// In:  edge/config.go, cloud/config.go and the CLI.
// Out: nothing; it fills the struct it was given.
package config

import (
	"fmt"
	"io"
	"os"

	"github.com/agogsaas/holdfast/internal/hint"
)

// fileMaxBytes is far more than any configuration needs; a larger file is a mistake.
const fileMaxBytes = 1 << 20

// Validator is implemented by the structs of a configuration whose values
// depend on more than their type. Load calls it on the value or the pointer
// of every struct, after all keys were read.
type Validator interface {
	Validate() []Problem
}

// Load reads the YAML file at path into the struct that into points to. Keys
// that the file does not have keep the value that the struct holds. What is
// wrong with the file is reported as an *Error; after any error the struct is
// partly filled and must not be used.
func Load(path string, into any) error {
	f, err := os.Open(path)
	if err != nil {
		return hint.Wrap(fmt.Errorf("open configuration: %w", err), "Create %s, or name another file.", path)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, fileMaxBytes+1))
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if len(data) > fileMaxBytes {
		return fmt.Errorf("read configuration: %s is larger than %s", path, Bytes(fileMaxBytes))
	}
	return Parse(path, data, into)
}
