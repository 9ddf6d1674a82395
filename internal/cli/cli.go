package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2
)

// command is one subcommand.
type command struct {
	name, usage, help string
	run               func(ctx context.Context, c *invocation) error
}

// invocation is one call of a subcommand.
type invocation struct {
	flags          *pflag.FlagSet
	args           []string
	stdout, stderr io.Writer
}

// usageError is a mistake in the call, not in what it does.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errReported is a failure that has been shown already.
var errReported = errors.New("failed")

func commands() []command {
	return []command{
		{"lab", "[--scenario NAME] [--list] [--json] [--svg FILE] [--keep]", "build a hybrid access network on this machine, run it, report, clean up", runLab},
		{"cpe", "--plain IF… --path IF[,join=ADDR:PORT][,mode=M]…", "run the box at the customer's edge", boxCommand("cpe")},
		{"hag", "--plain IF… --path IF… --join ADDR:PORT…", "run the box in the operator's network", boxCommand("hag")},
		{"flows", "[--json] [--watch] [--all]", "show the flows of a running box", runFlows},
		{"paths", "[--json] [--watch]", "show the paths of a running box: state, use, subflows, rate, round trip, quota", runPaths},
		{"replay", "FILE [--role cpe|hag] [--action A] [--config FILE] [--out FILE] [--json]", "show what a box would decide about a capture, and what it would send", runReplay},
		{"rules", "--role cpe|hag --plain IF… --path IF…", "print the nftables rules that a box would install", runRules},
		{"doctor", "[--json]", "tell what this machine can and cannot do, and how to mend it", runDoctor},
	}
}

// Main runs the command line and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	err := dispatch(ctx, args, stdout, stderr)
	var usage usageError
	switch {
	case err == nil, errors.Is(err, pflag.ErrHelp):
		return 0
	case errors.Is(err, errReported):
		return exitFailure
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "synbond: %s (see `synbond --help`)\n", oneLine(err))
		return exitUsage
	}
	fmt.Fprintf(stderr, "synbond: %s\n", oneLine(err))
	return exitFailure
}

// oneLine joins what errors.Join put on lines of their own.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		printHelp(stdout)
		if len(args) == 0 {
			return usagef("a subcommand is needed")
		}
		return nil
	}
	for _, cmd := range commands() {
		if cmd.name != args[0] {
			continue
		}
		inv := &invocation{flags: newFlagSet(cmd, stdout), args: args[1:], stdout: stdout, stderr: stderr}
		return cmd.run(ctx, inv)
	}
	return usagef("there is no subcommand %q", args[0])
}

func newFlagSet(cmd command, stdout io.Writer) *pflag.FlagSet {
	f := pflag.NewFlagSet(cmd.name, pflag.ContinueOnError)
	f.SortFlags = false
	f.SetOutput(io.Discard)
	f.Usage = func() {
		fmt.Fprintf(stdout, "synbond %s %s\n\n%s\n\n%s", cmd.name, cmd.usage, cmd.help, f.FlagUsages())
	}
	return f
}

// parse reads the flags of a subcommand that takes no further arguments.
func (c *invocation) parse() error {
	if err := c.parseFlags(); err != nil {
		return err
	}
	if c.flags.NArg() > 0 {
		return usagef("unexpected argument %q", c.flags.Arg(0))
	}
	return nil
}

// parseOne reads the flags of a subcommand that takes one argument, and returns it.
func (c *invocation) parseOne(what string) (string, error) {
	if err := c.parseFlags(); err != nil {
		return "", err
	}
	switch c.flags.NArg() {
	case 0:
		return "", usagef("%s is needed", what)
	case 1:
		return c.flags.Arg(0), nil
	}
	return "", usagef("unexpected argument %q", c.flags.Arg(1))
}

func (c *invocation) parseFlags() error {
	err := c.flags.Parse(c.args)
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		return usageError{err}
	}
	return err
}

func printHelp(w io.Writer) {
	fmt.Fprint(w, "synbond bonds access lines with Multipath TCP for hosts that do not speak it.\n\n")
	for _, cmd := range commands() {
		fmt.Fprintf(w, "  synbond %-7s %s\n", cmd.name, cmd.help)
	}
	fmt.Fprint(w, "\n`synbond COMMAND --help` tells the flags of a command.\n")
}

// interactive tells whether w is a terminal, where output may rewrite itself.
func interactive(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
