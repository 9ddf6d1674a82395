package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/state"
)

// flowsCommand shows the flows of a running box.
func flowsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "flows [--json] [--watch] [--all] [--client PREFIX] [--server PREFIX] [--port N] [--reason R] [--state S]",
		Short: "show the flows of a running box",
		Example: "  synbond flows --client 192.0.2.7 --port 443\n" +
			"  synbond flows --reason hag-down",
		Args: noArguments,
	}
	f, filter := cmd.Flags(), api.FlowFilter{}
	f.BoolVar(&filter.All, "all", false, "also show flows that ended in the last minute")
	f.Var(parsed(&filter.Client, "PREFIX", api.ParsePrefix), "client", "show flows of clients in this prefix, or with this address")
	f.Var(parsed(&filter.Server, "PREFIX", api.ParsePrefix), "server", "show flows to servers in this prefix, or with this address")
	f.Var(parsed(&filter.Port, "N", api.ParsePort), "port", "show flows to this port")
	oneOf(cmd, &filter.Reason, "reason", "R", "show flows with this reason, also ended ones", state.ReasonNames()...)
	oneOf(cmd, &filter.State, "state", "S", "show flows in this state, also ended ones", state.StateNames()...)
	v := bindView(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return v.show(cmd, filter.Request(), printed(printFlows)) }
	return cmd
}

// printFlows prints a table: a line per flow, and one per subflow under it.
func printFlows(w io.Writer, d *api.Dump) {
	t := d.Totals
	fmt.Fprintf(w, "%s, up %s: %d relaying, %d half open; %d relayed, %d passed, %d refused, %d unreachable, %d timed out so far; %s up, %s down\n",
		d.Role, (time.Duration(t.UptimeMS) * time.Millisecond).Round(time.Second),
		t.Live["relaying"], t.Live["dialing"]+t.Live["released"],
		t.Entered["relaying"], t.Entered["passed"], t.Entered["refused"], t.Entered["unreachable"], t.Entered["timed-out"],
		bytesText(t.BytesUp), bytesText(t.BytesDown))
	if t.Translated > 0 {
		fmt.Fprintf(w, "translated: %d SYNs passed, as this machine has changed their destination\n", t.Translated)
	}
	printCount(w, t.Findings)
	printLearnt(w, d.Learnt)
	printRecording(w, t.Recording)
	printGateway(w, t.Gateway)
	if len(d.Flows) == 0 {
		return
	}
	slices.SortFunc(d.Flows, func(a, b api.Flow) int { return cmp.Compare(b.AgeMS, a.AgeMS) })
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "\nCLIENT\tSERVER\tENTERED\tSTATE\tAGE\tSETUP\tUP\tDOWN\tMPTCP")
	if t.Recording != nil {
		fmt.Fprint(tw, "\tRECORDING")
	}
	if t.Gateway != nil {
		fmt.Fprint(tw, "\tUSER")
	}
	fmt.Fprintln(tw)
	for _, f := range d.Flows {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s%s%s\n", f.Client, serverText(f), f.Side, withReason(f.State, cmp.Or(f.Reason, f.Rule)),
			(time.Duration(f.AgeMS) * time.Millisecond).Round(time.Millisecond), time.Duration(f.SetupUS)*time.Microsecond,
			bytesText(f.BytesUp), bytesText(f.BytesDown), mptcpText(f), recordingText(f), userText(f))
		for _, s := range f.Subflows {
			fmt.Fprintf(tw, "  %s\t  %s\t%s\t\t\trtt %s\t%s sent%s\t%s received\t\n", s.Local, s.Remote, pathText(s),
				time.Duration(s.RTTUS)*time.Microsecond, bytesText(s.BytesSent), againText(s), bytesText(s.BytesReceived))
		}
	}
	tw.Flush()
}

func printLearnt(w io.Writer, all []api.Learnt) {
	slices.SortFunc(all, func(a, b api.Learnt) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
	for _, l := range all {
		speaks := "does not speak MPTCP"
		if l.MPTCP {
			speaks = "speaks MPTCP"
		}
		fmt.Fprintf(w, "learnt: %s %s, for another %s\n", l.Prefix, speaks,
			(time.Duration(l.ExpiresMS) * time.Millisecond).Round(time.Second))
	}
}

func printRecording(w io.Writer, r *api.RecordingTotals) {
	if r != nil {
		fmt.Fprintf(w, "recording to %s: %d packets, %d dropped\n", cmp.Or(r.File, "nowhere"), r.Packets, r.Dropped)
	}
}

func recordingText(f api.Flow) string {
	if f.Recording == "" {
		return ""
	}
	return "\t" + filepath.Base(f.Recording)
}

// printGateway prints the users of a gateway, and the clients that have left before they
// were connected.
func printGateway(w io.Writer, g *api.GatewayTotals) {
	if g == nil {
		return
	}
	for _, user := range slices.Sorted(maps.Keys(g.Users)) {
		u := g.Users[user]
		fmt.Fprintf(w, "%s: %d live, %d closed; %s up, %s down", userName(user), u.Live, u.Flows, bytesText(u.BytesUp), bytesText(u.BytesDown))
		if u.RateLimit > 0 {
			fmt.Fprintf(w, "; %s up, %s down of %s", rateText(u.RateUp), rateText(u.RateDown), rateText(u.RateLimit))
		}
		if u.Quota != nil {
			fmt.Fprintf(w, "; quota %s", quotaText(u.Quota))
		}
		fmt.Fprintln(w)
	}
	if len(g.Prefaces) == 0 {
		return
	}
	fmt.Fprint(w, "left before they were connected:")
	for _, reason := range slices.Sorted(maps.Keys(g.Prefaces)) {
		fmt.Fprintf(w, " %d %s", g.Prefaces[reason], reason)
	}
	fmt.Fprintln(w)
}

// userName names a user to people.
func userName(user string) string {
	if user == "" {
		return "without a user"
	}
	return "user " + user
}

// serverText shows what the client has asked for, if it has, else the server.
func serverText(f api.Flow) string {
	if f.Name != "" {
		return f.Name
	}
	return f.Server.String()
}

func userText(f api.Flow) string {
	if f.User == "" {
		return ""
	}
	return "\t" + f.User
}

func mptcpText(f api.Flow) string {
	if !f.MPTCP {
		return "no"
	}
	return fmt.Sprintf("%08x", f.Token)
}

func pathText(s api.Subflow) string {
	name := s.Path
	if name == "" {
		name = "?"
	}
	if s.Backup {
		name += " (backup)"
	}
	return name
}

func againText(s api.Subflow) string {
	if s.Retransmitted == 0 {
		return ""
	}
	return ", " + bytesText(s.Retransmitted) + " of it again"
}

// bytesText shows a number of bytes.
func bytesText(n uint64) string { return scaled(n, 1024, "B", "KiB", "MiB", "GiB", "TiB", "PiB") }

// scaled shows a number with one decimal in the unit that it fills, each so many
// times the one before, or as it is in the first unit.
func scaled(n uint64, step float64, units ...string) string {
	v, i := float64(n), 0
	for v >= step && i < len(units)-1 {
		v, i = v/step, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d %s", n, units[0])
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
