package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/cli"
	"github.com/synbond/synbond/internal/netlab"
)

// partVar makes this program play another part.
const partVar = "SYNBOND_BENCH_PART"

// Parts of child processes.
const (
	partSynbond = "synbond"
	partServer  = "server"
	partClient  = "client"
)

// self is this program in a part.
func self(part string) netlab.Program {
	return netlab.Program{Path: "/proc/self/exe", Env: []string{partVar + "=" + part}}
}

func main() {
	if err := play(os.Getenv(partVar)); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

func play(part string) error {
	if part == partServer || part == partClient {
		// A terminal signals them, too. They end when the bench has them end.
		signal.Ignore(unix.SIGINT, unix.SIGTERM)
	}
	switch part {
	case partSynbond:
		os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
	case partServer:
		return serve(os.Stdout)
	case partClient:
		return client(os.Stdin, os.Stdout)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	return bench(ctx, os.Args[1:])
}

// options of the command line.
type options struct {
	rounds       int
	quick        bool
	only         []string
	json, report string
}

func parseOptions(args []string) (o options, err error) {
	f := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 5, "how often every contender does every work")
	f.BoolVar(&o.quick, "quick", false, "one short round, to see that all works")
	f.StringSliceVar(&o.only, "only", nil, "contenders, passes and works whose name begins with one of these; default all of each")
	f.StringVar(&o.json, "json", "", "write all values to this file")
	f.StringVar(&o.report, "report", "", "write the report to this file, in Markdown")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.rounds < 1 || f.NArg() > 0 {
		return o, fmt.Errorf("usage: bench [--rounds N] [--quick] [--only NAME…] [--json FILE] [--report FILE]")
	}
	if o.quick && !f.Changed("rounds") {
		o.rounds = 1
	}
	return o, nil
}

// duration of one measurement.
func (o options) duration() time.Duration {
	if o.quick {
		return 300 * time.Millisecond
	}
	return 1500 * time.Millisecond
}

// wanted picks from a table what --only names, or all of it if it names none.
func wanted[T any](only []string, table []T, name func(T) string) []T {
	named := func(v T) bool {
		return slices.ContainsFunc(only, func(o string) bool { return strings.HasPrefix(name(v), o) })
	}
	if !slices.ContainsFunc(table, named) {
		return table
	}
	return slices.DeleteFunc(slices.Clone(table), func(v T) bool { return !named(v) })
}
