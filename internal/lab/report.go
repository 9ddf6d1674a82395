package lab

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// Check is one thing that must be so.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// Report is what a run has shown.
type Report struct {
	Scenario string             `json:"scenario"`
	OK       bool               `json:"ok"` // every check is
	Checks   []Check            `json:"checks"`
	Figures  map[string]float64 `json:"figures"`
	Wires    []Wire             `json:"wires,omitempty"` // of a comparison
	Parts    []*Part            `json:"parts,omitempty"`

	Without Measured `json:"-"`
	With    Measured `json:"-"`
	lines   []netlab.LineConfig
}

func (r *Report) check(name string, ok bool, detail string) {
	r.Checks = append(r.Checks, Check{name, ok, detail})
	r.OK = r.OK && ok
}

func (r *Report) figure(name string, v float64) {
	r.Figures[strings.NewReplacer(" ", "_", "/", "_", ",", "").Replace(strings.ToLower(name))] = v
}

// Print shows the report to a person.
func (r *Report) Print(w io.Writer, s Style) {
	fmt.Fprintf(w, "\nscenario %s: ", r.Scenario)
	for i, l := range r.lines {
		if i > 0 {
			fmt.Fprint(w, " + ")
		}
		fmt.Fprintf(w, "%s %d Mbit/s, %s round trip", l.Name, l.Rate/mbit, 2*l.Delay)
	}
	fmt.Fprint(w, "\n\n")
	if r.Wires != nil {
		r.printMeasured(w)
		r.printWires(w)
	}
	for _, p := range r.Parts {
		p.print(w, s)
	}
	r.printChecks(w, s)
}

// print shows the part's chart, and what there is to say of it.
func (p *Part) print(w io.Writer, s Style) {
	fmt.Fprintln(w, p.Title)
	p.Timeline.Chart(w, s)
	tabulate(w, p.table)
	for _, n := range p.Notes {
		fmt.Fprintf(w, "  %s\n", n)
	}
	fmt.Fprintln(w)
}

// tabulate prints rows below the first one, their head.
func tabulate(w io.Writer, rows [][]string) {
	tw := tabwriter.NewWriter(w, 2, 0, 3, ' ', 0)
	indent := ""
	for _, row := range rows {
		fmt.Fprintf(tw, "%s%s\n", indent, strings.Join(row, "\t"))
		indent = "  "
	}
	tw.Flush()
}

func (r *Report) printWires(w io.Writer) {
	rows := [][]string{{"on the wire", "SYN", "SYN+ACK"}}
	for _, wire := range r.Wires {
		rows = append(rows, []string{wire.Link, wire.SYN, wire.SYNACK})
	}
	tabulate(w, rows)
	fmt.Fprintln(w)
}

func (r *Report) printChecks(w io.Writer, s Style) {
	failed := 0
	for _, c := range r.Checks {
		sign := s.paint("ok  ", "32")
		if !c.OK {
			sign = s.paint("FAIL", "1;31")
			failed++
		}
		fmt.Fprintf(w, "%s  %s", sign, c.Name)
		if !c.OK {
			fmt.Fprintf(w, " (%s)", c.Detail)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "\n%d checks, %d failed\n", len(r.Checks), failed)
}

// printMeasured shows the measurements side by side.
func (r *Report) printMeasured(w io.Writer) {
	rows := [][]string{{"what a client sees", "without boxes", "with boxes", "ratio"}}
	row := func(columns ...string) { rows = append(rows, columns) }
	a, b := &r.Without, &r.With
	for i, f := range families {
		row("connect, "+f.name, ms(a.Connect[i]), ms(b.Connect[i]), ratio(b.Connect[i].Seconds(), a.Connect[i].Seconds()))
	}
	for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
		from, to := a.result(d), b.result(d)
		row("goodput "+d.String(), mbits(from.Goodput), mbits(to.Goodput), ratio(to.Goodput, from.Goodput))
	}
	for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
		for i, l := range r.lines {
			row(fmt.Sprintf("share of %s, %s", l.Name, d), percent(a.Share[d][i]), percent(b.Share[d][i]), "")
		}
	}
	for i, f := range families {
		row("server sees, "+f.name, a.PeerSeen[i].String(), b.PeerSeen[i].String(), "")
	}
	for i, f := range families {
		row("refused port, "+f.name, a.Refused[i].String(), b.Refused[i].String(), "")
		row("absent host, "+f.name, a.Absent[i].String(), b.Absent[i].String(), "")
	}
	tabulate(w, rows)
	fmt.Fprintln(w)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1000) }
func mbits(v float64) string    { return fmt.Sprintf("%.1f Mbit/s", v/mbit) }
func percent(v float64) string  { return fmt.Sprintf("%.0f %%", 100*v) }
func ratio(a, b float64) string { return fmt.Sprintf("%.3f", a/b) }
