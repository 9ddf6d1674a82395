package cli

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/config"
	"github.com/synbond/synbond/internal/core"
)

// explainCommand asks a running box what it would do with a SYN.
func explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "explain CLIENT SERVER:PORT [--in IF] [--mptcp] [--user NAME] [--json]",
		Short:   "ask a running box what it would do with a SYN now, and why; a gateway, with a request",
		Example: "  synbond explain 192.0.2.7 203.0.113.1:443\n  synbond explain 2001:db8::7 [2001:db8:1::1]:443 --json",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("two arguments are needed: the client's address, and the server's address with its port")
			}
			return nil
		},
	}
	var q api.ExplainQuery
	var control string
	var mptcp bool
	f := cmd.Flags()
	f.Var(parsed(&q.In, "IF", config.ParseInterface), "in", "interface by which the SYN comes in (default: the one that leads to the client)")
	f.BoolVar(&mptcp, "mptcp", false, "the SYN has MP_CAPABLE (default: on the multipath side only)")
	f.StringVar(&q.User, "user", "", "user `NAME` who asks a gateway")
	asJSON := f.Bool("json", false, "print one JSON object")
	bindControl(cmd, &control)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if q.Client, err = api.ParseClient(args[0]); err != nil {
			return usagef("client %q: %w", args[0], err)
		}
		if q.Server, err = api.ParseServer(args[1]); err != nil {
			return usagef("server %q: %w", args[1], err)
		}
		if err := q.Check(); err != nil {
			return usageError{err}
		}
		if cmd.Flags().Changed("mptcp") {
			q.MPTCP = &mptcp
		}
		v := view{json: *asJSON, control: control}
		return v.show(cmd, q.Request(), printed(printExplanation))
	}
	return cmd
}

// printExplanation prints a line per step.
func printExplanation(w io.Writer, e *api.Explanation) {
	client := e.Client.String()
	if e.Client.Port() == 0 {
		client = e.Client.Addr().String()
	}
	what := "SYN"
	if core.Role(e.Role) == core.Gateway {
		what = "request"
	}
	fmt.Fprintf(w, "a %s from %s to %s, at this %s now:\n\n", what, client, e.Server, core.Role(e.Role).Title())
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range e.Steps {
		fmt.Fprintf(tw, "%s\t%s\n", s.Step, s.Detail)
	}
	tw.Flush()
}
