//go:build linux

package main

import (
	"context"
	"errors"
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

// roleVar makes this program run as a child process: see runRole.
const roleVar = "SYNBOND_BENCH_ROLE"

// Roles of child processes.
const (
	roleSynbond = "synbond"
	roleServer  = "server"
	roleClient  = "client"
)

// self returns this program in a role.
func self(role string) netlab.Program {
	return netlab.Program{Path: "/proc/self/exe", Env: []string{roleVar + "=" + role}}
}

func main() {
	if err := runRole(os.Getenv(roleVar)); err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
}

func runRole(role string) error {
	if role == roleServer || role == roleClient {
		// A terminal signals children, too. They end when this program ends them.
		signal.Ignore(unix.SIGINT, unix.SIGTERM)
	}
	switch role {
	case roleSynbond:
		os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
	case roleServer:
		return serve(os.Stdout)
	case roleClient:
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
	before       string
	json, report string
}

func parseOptions(args []string) (o options, err error) {
	f := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 5, "number of times that every system runs every workload")
	f.BoolVar(&o.quick, "quick", false, "one short round, as a test of the benchmark itself")
	f.StringSliceVar(&o.only, "only", nil, "systems, passes and workloads whose name begins with one of these; default all of each")
	f.StringVar(&o.before, "before", "", "another synbond program, for comparison in the same run")
	f.StringVar(&o.json, "json", "", "write all values to this file")
	f.StringVar(&o.report, "report", "", "write the report to this file, in Markdown")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.rounds < 1 || f.NArg() > 0 {
		return o, fmt.Errorf("usage: bench [--rounds N] [--quick] [--only NAME…] [--before PROGRAM] [--json FILE] [--report FILE]")
	}
	if o.quick && !f.Changed("rounds") {
		o.rounds = 1
	}
	return o, nil
}

// duration returns the duration of one measurement.
func (o options) duration() time.Duration {
	if o.quick {
		return 300 * time.Millisecond
	}
	return 1500 * time.Millisecond
}

// wanted returns the entries of a table that --only names, or all if it names none.
func wanted[T any](only []string, table []T, name func(T) string) []T {
	named := func(v T) bool {
		return slices.ContainsFunc(only, func(o string) bool { return strings.HasPrefix(name(v), o) })
	}
	if !slices.ContainsFunc(table, named) {
		return table
	}
	return slices.DeleteFunc(slices.Clone(table), func(v T) bool { return !named(v) })
}
