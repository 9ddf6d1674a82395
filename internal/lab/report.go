//go:build linux

package lab

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// Check is the result of one check.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// Report is the result of a run.
type Report struct {
	Scenario string             `json:"scenario"`
	OK       bool               `json:"ok"` // all checks
	Checks   []Check            `json:"checks"`
	Figures  map[string]float64 `json:"figures"`
	Wires    []Wire             `json:"wires,omitempty"` // of a comparison
	Variants []*VariantReport   `json:"parts,omitempty"`

	Without Measurement `json:"-"`
	With    Measurement `json:"-"`
	lines   []netlab.LineConfig
}

func (r *Report) check(name string, ok bool, detail string) {
	r.Checks = append(r.Checks, Check{name, ok, detail})
	r.OK = r.OK && ok
}

func (r *Report) figure(name string, v float64) {
	r.Figures[strings.NewReplacer(" ", "_", "/", "_", ",", "").Replace(strings.ToLower(name))] = v
}

// Print prints the report as text.
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
	for _, v := range r.Variants {
		v.print(w, s)
	}
	r.printChecks(w, s)
}

// print prints the variant's chart, table and notes.
func (v *VariantReport) print(w io.Writer, s Style) {
	fmt.Fprintln(w, v.Title)
	v.Timeline.Chart(w, s)
	tabulate(w, v.table)
	for _, n := range v.Notes {
		fmt.Fprintf(w, "  %s\n", n)
	}
	fmt.Fprintln(w)
}

// tabulate prints a table whose first row is the head.
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

// printMeasured prints the measurements without and with boxes side by side.
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
