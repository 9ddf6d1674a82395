package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/synbond/synbond/lab"
)

// runLab builds a network in namespaces, runs a scenario in it, and reports.
func runLab(ctx context.Context, c *invocation) error {
	name := c.flags.String("scenario", lab.Scenarios[0].Name, "what to show")
	list := c.flags.Bool("list", false, "list the scenarios")
	asJSON := c.flags.Bool("json", false, "print one JSON object")
	keep := c.flags.Bool("keep", false, "leave the network up until interrupted, and tell how to enter it")
	if err := c.parse(); err != nil {
		return err
	}
	if *list {
		for _, s := range lab.Scenarios {
			fmt.Fprintf(c.stdout, "%-12s %s\n", s.Name, s.Help)
		}
		return nil
	}
	scenario, err := lab.Find(*name)
	if err != nil {
		return usageError{err}
	}
	if err := lab.Reexec(); err != nil {
		return err
	}
	p := newProgress(c.stderr)
	o := lab.Options{Program: lab.Self(), Say: p.say}
	if *keep {
		o.Keep = func(r *lab.Report, n *lab.Network, cpe, hag *lab.Box) {
			p.done()
			_ = c.printReport(r, *asJSON) // printed again it would tell no more
			explain(ctx, c.stderr, n, cpe, hag)
		}
	}
	report, err := scenario.Run(ctx, o)
	p.done()
	switch {
	case err == nil && *keep: // printed already
	case ctx.Err() != nil:
		return errors.New("interrupted; the network is gone")
	case err != nil:
		return err
	default:
		err = c.printReport(report, *asJSON)
	}
	if err == nil && !report.OK {
		err = errReported
	}
	return err
}

func (c *invocation) printReport(r *lab.Report, asJSON bool) error {
	if !asJSON {
		r.Print(c.stdout, interactive(c.stdout))
		return nil
	}
	enc := json.NewEncoder(c.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// explain tells how to enter the hosts, and waits for an interrupt.
func explain(ctx context.Context, w io.Writer, n *lab.Network, cpe, hag *lab.Box) {
	fmt.Fprintln(w, "The network stays up until you press Ctrl-C. To look around:")
	for _, h := range []*lab.Host{n.Client, n.CPE, n.HAG, n.Server} {
		fmt.Fprintf(w, "  %-7s %s\n", h.Name, h.Enter())
	}
	for _, b := range []*lab.Box{cpe, hag} {
		fmt.Fprintf(w, "  synbond flows --control %s\n", b.Control)
	}
	fmt.Fprintf(w, "  The server answers transfers on [%s]:5001 and %s:5001.\n", lab.Server6, lab.Server4)
	<-ctx.Done()
}

// progress shows which step is being taken: on a terminal in a line that
// rewrites itself, elsewhere in a line per step.
type progress struct {
	w     io.Writer
	tty   bool
	start time.Time
}

func newProgress(w io.Writer) *progress {
	return &progress{w: w, tty: interactive(w), start: time.Now()}
}

func (p *progress) say(step string) {
	format := "%5.1f s  %s\n"
	if p.tty {
		format = "\r\x1b[K%5.1f s  %s"
	}
	fmt.Fprintf(p.w, format, time.Since(p.start).Seconds(), step)
}

// done ends the line that rewrites itself.
func (p *progress) done() {
	if p.tty {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
