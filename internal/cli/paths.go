package cli

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/core"
)

// pathsCommand shows the paths of a running box.
func pathsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "paths [--json] [--watch]",
		Short: "show the paths of a running box: state, use, subflows, rate, round trip, quota",
		Args:  noArguments,
	}
	v := bindView(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return v.show(cmd, api.PathsResource, printed(printPaths))
	}
	return cmd
}

// printPaths prints a table: a line per path, or on a HAG per path of a CPE.
func printPaths(w io.Writer, p *api.Paths) {
	defer func() { // after the table's flush
		printFindings(w, p.Findings)
		printKept(w, p.Kept)
	}()
	printTransport(w, p.Transport)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer tw.Flush()
	if p.HAG == nil {
		fmt.Fprintln(w)
		printPeers(tw, p)
		return
	}
	fmt.Fprintf(w, "HAG is %s for %s\n\n", withReason(p.HAG.State, p.HAG.Reason), ago(p.HAG.SinceMS))
	fmt.Fprintln(tw, "PATH\tINTERFACE\tMODE\tUSE\tSUBFLOWS\tWINDOW\tUP\tDOWN\tRTT\tLOSS\tQUOTA\tADDRESSES\tSTATE")
	for _, p := range p.Paths {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s for %s\n", p.Name, p.Interface, p.Mode, p.Use,
			p.Subflows, windowText(p.PathState), rateText(p.RateUp), rateText(p.RateDown), rttText(p.PathState), lossText(p.PathState), quotaText(p.Quota),
			addressesText(p.PathState), withReason(p.State, p.Reason), ago(p.SinceMS)+blockedText(p.Blocked)+laggingText(p.Lagging))
	}
}

// blockedText says for which address families a path lets no MPTCP through.
func blockedText(families []string) string {
	if len(families) == 0 {
		return ""
	}
	return "; blocks " + strings.Join(families, " and ") + " with MPTCP"
}

// laggingText names the directions in which a path is too slow to be used beside the others.
func laggingText(directions []string) string {
	if len(directions) == 0 {
		return ""
	}
	return "; far slower than the others, a backup when " + strings.Join(directions, " and ")
}

func printTransport(w io.Writer, t api.Transport) {
	fmt.Fprintf(w, "multipath legs: %s, initial window of %d segments, receive buffer %s to %s, send buffer up to %s\n",
		t.CongestionControl, t.InitialWindow, bufferText(t.ReceiveBuffer[1]), bufferText(t.ReceiveBuffer[2]), bufferText(t.SendBuffer[2]))
}

// printPeers shows the paths of the CPEs that a HAG hears of.
func printPeers(w io.Writer, p *api.Paths) {
	switch {
	case p.Role == string(core.Gateway):
		fmt.Fprintln(w, "a gateway has no paths: its clients choose them, and flows shows their subflows")
		return
	case len(p.Peers) == 0:
		fmt.Fprintln(w, "no CPE probes this HAG")
		return
	}
	fmt.Fprintln(w, "CPE\tPATH\tADDRESS\tWINDOW\tSTATE\tHEARD")
	for _, peer := range p.Peers {
		for _, at := range peer.Paths {
			fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\t%s ago\n", peer.Box, at.Index+1, at.Address, at.FurtherWindow, at.State, ago(at.HeardMS))
		}
	}
}

func withReason(state, reason string) string {
	if reason == "" {
		return state
	}
	return state + " (" + reason + ")"
}

// ago shows a time with no more digits than a reader wants.
func ago(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// addressesText shows the addresses of a path, IPv6 first, and behind a NAT also those
// that the HAG sees.
func addressesText(p *api.PathState) string {
	var known []string
	for _, at := range []struct{ own, seen netip.Addr }{{p.Address6, p.Seen6}, {p.Address4, p.Seen4}} {
		switch {
		case !at.own.IsValid():
		case at.seen.IsValid() && at.seen != at.own:
			known = append(known, fmt.Sprintf("%s (NAT: %s)", at.own, at.seen))
		default:
			known = append(known, at.own.String())
		}
	}
	return cmp.Or(strings.Join(known, " "), "none")
}

// windowText shows the windows of both families, in the order of the addresses.
func windowText(p *api.PathState) string {
	var known []string
	for _, n := range []int{p.FurtherWindow6, p.FurtherWindow4} {
		if n > 0 {
			known = append(known, strconv.Itoa(n))
		}
	}
	return cmp.Or(strings.Join(known, " "), "-")
}

func rttText(p *api.PathState) string {
	if !p.Probed {
		return "-"
	}
	return (time.Duration(p.RTTUS) * time.Microsecond).Round(100 * time.Microsecond).String()
}

func lossText(p *api.PathState) string {
	if !p.Probed {
		return "-"
	}
	return fmt.Sprintf("%.0f %%", 100*p.Loss)
}

// bufferText shows the size of a buffer.
func bufferText(n int) string { return scaled(uint64(n), 1024, "B", "KiB", "MiB", "GiB") }

func quotaText(q *api.Quota) string {
	if q == nil {
		return "-"
	}
	size := func(n uint64) string { return scaled(n, 1000, "B", "kB", "MB", "GB", "TB", "PB") } // as quotas are sold
	return fmt.Sprintf("%s of %s until %s", size(q.Used), size(q.Limit), q.Until.Format(time.DateOnly))
}

// rateText shows bit/s.
func rateText(n uint64) string {
	return scaled(n, 1000, "bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s")
}
