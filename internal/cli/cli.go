package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/config"
)

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2
)

// usageError is a mistake in the command line, as opposed to a failure.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errReported is a failure that has been shown already.
var errReported = errors.New("failed")

// Main runs the command line and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	root := Root()
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetArgs(append([]string{}, args...)) // no arguments are none, not those of the process
	cmd, err := root.ExecuteContextC(ctx)
	var usage usageError
	var flag *config.FlagError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errReported):
		return exitFailure
	case errors.As(err, &usage), errors.As(err, &flag):
		fmt.Fprintf(stderr, "synbond: %s (see `%s --help`)\n", oneLine(err), cmd.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(stderr, "synbond: %s\n", oneLine(err))
	return exitFailure
}

// oneLine joins the lines of an error, such as one of [errors.Join].
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// Root returns the command synbond with its subcommands.
func Root() *cobra.Command {
	root := &cobra.Command{
		Use:   "synbond",
		Short: "synbond bonds access lines with Multipath TCP for hosts that do not speak it.",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.Join(cmd.Help(), usagef("a subcommand is needed"))
			}
			return unknownCommand(cmd, args[0])
		},
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetFlagErrorFunc(flagError)
	root.SetHelpFunc(printHelp)
	root.SetHelpCommand(helpCommand())
	cobra.EnableCommandSorting = false // help lists them as here
	root.AddCommand(
		labCommand(), boxCommand("cpe"), boxCommand("hag"), boxCommand("gateway"), flowsCommand(), explainCommand(), pathsCommand(), replayCommand(),
		rulesCommand(), checkCommand(), doctorCommand(), reportCommand(), passwdCommand(), completionCommand(), versionCommand(),
	)
	for _, cmd := range root.Commands() {
		cmd.DisableFlagsInUseLine = true
		cmd.Flags().SortFlags = false
	}
	return root
}

// unknownCommand is the error about a subcommand that does not exist.
func unknownCommand(root *cobra.Command, name string) error {
	if similar := root.SuggestionsFor(name); len(similar) > 0 {
		return usagef("there is no subcommand %q; did you mean %s?", name, strings.Join(similar, " or "))
	}
	return usagef("there is no subcommand %q", name)
}

// noArguments is the [cobra.PositionalArgs] of a subcommand without arguments.
func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}

// oneArgument is the [cobra.PositionalArgs] of a subcommand with one argument.
func oneArgument(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return usagef("%s is needed", what)
		case 1:
			return nil
		}
		return usagef("unexpected argument %q", args[1])
	}
}

// someArguments permits one argument or more.
func someArguments(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%s is needed", what)
		}
		return nil
	}
}

// interactive reports whether w is a terminal, where output may rewrite itself.
func interactive(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), getTermios)
	return err == nil
}
