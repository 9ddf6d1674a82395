package pcaps

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Lines prints decisions as text, one per line.
type Lines struct {
	W      io.Writer
	widths [3]int // of the columns: the widest texts so far
}

// Decision prints one decision.
func (l *Lines) Decision(d Decision) error {
	frame := "-"
	if d.Frame != 0 {
		frame = fmt.Sprint(d.Frame)
	}
	verdict := d.Verdict
	if why := cmp.Or(d.Reason, d.Rule); why != "" && why != verdict {
		verdict += " (" + why + ")"
	}
	usual := [...]int{44, 21, 18} // an IPv6 flow, SYN+ACK MP_CAPABLE v1, accept (mp-join)
	columns := [...]string{flowText(d.Client, d.Server), d.In, verdict}
	for i, text := range columns {
		n := utf8.RuneCountInString(text)
		l.widths[i] = max(l.widths[i], usual[i], n)
		columns[i] += strings.Repeat(" ", l.widths[i]-n)
	}
	line := fmt.Sprintf("%7s %s  %s  %s", frame, timeText(d.TimeUS), strings.Join(columns[:], "  "), d.Out)
	_, err := fmt.Fprintln(l.W, strings.TrimRight(line, " "))
	return err
}

func timeText(us int64) string { return fmt.Sprintf("%5d.%06d", us/1e6, us%1e6) }

func flowText(client, server netip.AddrPort) string {
	return client.String() + " → " + server.String()
}

// Print prints a paragraph for each flow, with its handshake, and the totals.
func (r *Report) Print(w io.Writer) error {
	b := bufio.NewWriter(w)
	for i, f := range r.Flows {
		fmt.Fprintf(b, "\nflow %d: %s\n", i+1, flowText(f.Client, f.Server))
		f.print(b)
	}
	if more := r.Totals.Flows - len(r.Flows); more > 0 {
		fmt.Fprintf(b, "\nand %d flows more\n", more)
	}
	r.Totals.print(b)
	return b.Flush()
}

func (f *Flow) print(w io.Writer) {
	reason := ""
	if why := cmp.Or(f.Reason, f.Rule); why != "" {
		reason = " (" + why + ")"
	}
	fmt.Fprintf(w, "  %s, entered on the %s side, %s%s", f.Action, f.Side, f.State, reason)
	if f.SetupUS != 0 {
		fmt.Fprintf(w, ", set up in %v", time.Duration(f.SetupUS)*time.Microsecond)
	}
	fmt.Fprintf(w, "; %d packets, %d bytes up, %d down\n", f.Packets, f.BytesUp, f.BytesDown)
	f.Connection.print(w)
	printLadder(w, f.Handshake)
	if f.Omitted > 0 {
		fmt.Fprintf(w, "  and %d packets more\n", f.Omitted)
	}
}

func (c *Connection) print(w io.Writer) {
	switch {
	case c.SubflowOf.IsValid():
		fmt.Fprintf(w, "  subflow of the connection of %s\n", c.SubflowOf)
	case c.Version != nil && c.ClientToken == 0 && c.ServerToken == 0:
		fmt.Fprintf(w, "  MPTCP version %d is offered\n", *c.Version)
	case c.Version != nil:
		fmt.Fprintf(w, "  MPTCP version %d, token of the client %s, of the server %s\n",
			*c.Version, tokenText(c.ClientToken), tokenText(c.ServerToken))
	}
	if c.Fallback != "" {
		fmt.Fprintf(w, "  plain TCP: %s\n", c.Fallback)
	}
	for _, s := range c.Subflows {
		backup := ""
		if s.Backup {
			backup = ", backup"
		}
		fmt.Fprintf(w, "  subflow %s, address %d%s, frame %d: %s\n",
			flowText(s.Client, s.Server), s.AddressID, backup, s.Frame, s.State)
	}
}

func tokenText(token uint32) string {
	if token == 0 {
		return "not captured"
	}
	return fmt.Sprintf("%08x", token)
}

func (t *Totals) print(w io.Writer) {
	from := ""
	if !t.Start.IsZero() {
		from = " from " + t.Start.UTC().Format(time.RFC3339Nano)
	}
	fmt.Fprintf(w, "\n%d packets in %v%s, %d bytes captured; flows: %d\n",
		t.Packets, time.Duration(t.SpanUS)*time.Microsecond, from, t.Bytes, t.Flows)
	for _, n := range []struct {
		count uint64
		text  string
	}{
		{t.Written, "packets written"},
		{t.Cut, "packets cut off by the snap length"},
		{t.NotIP, "packets that are not IP"},
		{t.LeftOut, "packets left out: on their way out of the box, or for the box itself"},
	} {
		if n.count > 0 {
			fmt.Fprintf(w, "%d %s\n", n.count, n.text)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(t.Unread)) {
		format := "%s frames of %s not read\n"
		if strings.HasPrefix(kind, "link type ") {
			format = "%s of them of %s, which is not read\n"
		}
		fmt.Fprintf(w, format, grouped(t.Unread[kind]), kind)
	}
	const disorder = time.Millisecond // smaller differences come from the cores of one machine
	if late := time.Duration(t.LateUS) * time.Microsecond; late >= disorder {
		fmt.Fprintf(w, "%d packets are earlier than one before them, by up to %v: reordercap(1) sorts a capture\n", t.Late, late)
	}
	printCounts(w, "decisions", t.Verdicts)
	printCounts(w, "reasons", t.Reasons)
	printCounts(w, "rules", t.Rules)
}

// grouped returns a number with commas between groups of three digits.
func grouped(n uint64) string {
	text := fmt.Sprint(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

func printCounts(w io.Writer, what string, counts map[string]uint64) {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, fmt.Sprintf("%d %s", counts[name], name))
	}
	if len(words) > 0 {
		fmt.Fprintf(w, "%s: %s\n", what, strings.Join(words, ", "))
	}
}
