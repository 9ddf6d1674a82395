package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/synbond/synbond/box"
)

// runFlows shows the flows of a running box.
func runFlows(ctx context.Context, c *invocation) error {
	asJSON := c.flags.Bool("json", false, "print one JSON object")
	watch := c.flags.Bool("watch", false, "show them again every second")
	all := c.flags.Bool("all", false, "also show flows that ended in the last minute")
	control := c.flags.String("control", "", "control socket of the box (default: that of the only box under /run/synbond)")
	if err := c.parse(); err != nil {
		return err
	}
	path, err := controlPath(*control)
	if err != nil {
		return err
	}
	for {
		raw, err := ask(ctx, path, *all)
		if err != nil {
			return err
		}
		if err := show(c.stdout, raw, *asJSON, *watch); err != nil {
			return err
		}
		if !*watch {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// controlPath finds the one box that runs here, unless told which.
func controlPath(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	sockets, _ := filepath.Glob("/run/synbond/*.sock") // the pattern is right
	var alive []string
	for _, s := range sockets {
		if c, err := net.Dial("unix", s); err == nil {
			c.Close()
			alive = append(alive, s)
		}
	}
	switch len(alive) {
	case 0:
		return "", errors.New("no box answers under /run/synbond: start one, run this as root, or name its --control socket")
	case 1:
		return alive[0], nil
	}
	return "", fmt.Errorf("several boxes run here: choose one with --control %s", strings.Join(alive, " or "))
}

// ask gets the dump of the box behind a control socket.
func ask(ctx context.Context, path string, all bool) ([]byte, error) {
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true,
	}, Timeout: 10 * time.Second}
	url := "http://box/flows"
	if all {
		url += "?all"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no box answers at %s: %w", path, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func show(w io.Writer, raw []byte, asJSON, again bool) error {
	if asJSON {
		_, err := w.Write(raw)
		return err
	}
	var d box.Dump
	if err := json.Unmarshal(raw, &d); err != nil {
		return fmt.Errorf("the box answered what this version cannot read: %w", err)
	}
	if again && interactive(w) {
		fmt.Fprint(w, "\x1b[H\x1b[2J") // home, clear
	}
	printFlows(w, d)
	return nil
}

// printFlows prints a table: a line per flow, and one per subflow under it.
func printFlows(w io.Writer, d box.Dump) {
	t := d.Totals
	fmt.Fprintf(w, "%s, up %s: %d relaying, %d half open; %d relayed, %d passed, %d refused, %d unreachable, %d timed out so far; %s up, %s down\n",
		d.Role, (time.Duration(t.UptimeMS) * time.Millisecond).Round(time.Second),
		t.Live["relaying"], t.Live["dialing"]+t.Live["released"],
		t.Entered["relaying"], t.Entered["passed"], t.Entered["refused"], t.Entered["unreachable"], t.Entered["timed-out"],
		bytesText(t.BytesUp), bytesText(t.BytesDown))
	printLearnt(w, d.Learnt)
	if len(d.Flows) == 0 {
		return
	}
	slices.SortFunc(d.Flows, func(a, b box.Flow) int { return cmp.Compare(b.AgeMS, a.AgeMS) })
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nCLIENT\tSERVER\tENTERED\tSTATE\tAGE\tSETUP\tUP\tDOWN\tMPTCP")
	for _, f := range d.Flows {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Client, f.Server, f.Side, stateText(f),
			(time.Duration(f.AgeMS) * time.Millisecond).Round(time.Millisecond), time.Duration(f.SetupUS)*time.Microsecond,
			bytesText(f.BytesUp), bytesText(f.BytesDown), mptcpText(f))
		for _, s := range f.Subflows {
			fmt.Fprintf(tw, "  %s\t  %s\t%s\t\t\trtt %s\t%s sent\t%s received\t\n", s.Local, s.Remote, pathText(s),
				time.Duration(s.RTTUS)*time.Microsecond, bytesText(s.BytesSent), bytesText(s.BytesReceived))
		}
	}
	tw.Flush()
}

func printLearnt(w io.Writer, all []box.Learnt) {
	slices.SortFunc(all, func(a, b box.Learnt) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
	for _, l := range all {
		speaks := "does not speak MPTCP"
		if l.MPTCP {
			speaks = "speaks MPTCP"
		}
		fmt.Fprintf(w, "learnt: %s %s, for another %s\n", l.Prefix, speaks,
			(time.Duration(l.ExpiresMS) * time.Millisecond).Round(time.Second))
	}
}

func stateText(f box.Flow) string {
	if f.Reason == "" {
		return f.State
	}
	return f.State + " (" + f.Reason + ")"
}

func mptcpText(f box.Flow) string {
	if !f.MPTCP {
		return "no"
	}
	return fmt.Sprintf("%08x", f.Token)
}

func pathText(s box.Subflow) string {
	name := s.Path
	if name == "" {
		name = "?"
	}
	if s.Backup {
		name += " (backup)"
	}
	return name
}

// bytesText shows a number of bytes with at most four digits.
func bytesText(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
