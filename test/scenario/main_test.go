package scenario

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// lanes is how many scenarios run side by side. They spend their time waiting
// for other processes and for deadlines, so more fit than there are cores.
const lanes = "5"

func TestMain(m *testing.M) {
	if path := os.Getenv(doorEnv); path != "" {
		if err := door(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", lanes); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	os.Exit(m.Run())
}
