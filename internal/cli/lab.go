package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/synbond/synbond/internal/lab"
	"github.com/synbond/synbond/internal/netlab"
)

// labFlags is how a lab is asked for.
type labFlags struct {
	scenario, svg    string
	list, json, keep bool
}

// runLab builds a network in namespaces, runs a scenario in it, and reports.
func runLab(ctx context.Context, c *invocation) error {
	var f labFlags
	c.flags.StringVar(&f.scenario, "scenario", lab.Scenarios[0].Name, "what to show")
	c.flags.BoolVar(&f.list, "list", false, "list the scenarios")
	c.flags.BoolVar(&f.json, "json", false, "print one JSON object")
	c.flags.StringVar(&f.svg, "svg", "", "draw the charts into this file, too")
	c.flags.BoolVar(&f.keep, "keep", false, "leave the network up until interrupted, and tell how to enter it")
	if err := c.parse(); err != nil {
		return err
	}
	if f.list {
		for _, s := range lab.Scenarios {
			fmt.Fprintf(c.stdout, "%-16s %s\n", s.Name, s.Help)
		}
		return nil
	}
	scenario, err := lab.Find(f.scenario)
	if err != nil {
		return usageError{err}
	}
	if f.svg != "" && !scenario.Charted() {
		return usagef("scenario %s has no chart to draw", f.scenario)
	}
	if err := netlab.Reexec(); err != nil {
		return err
	}
	return c.playLab(ctx, scenario, f)
}

// playLab runs a scenario and shows what came of it.
func (c *invocation) playLab(ctx context.Context, scenario lab.Scenario, f labFlags) error {
	show := func(r *lab.Report) error { return c.printReport(r, f.json) }
	if f.svg != "" {
		picture, err := os.Create(f.svg) // now, so that a mistake in its name costs no time
		if err != nil {
			return fmt.Errorf("picture: %w", err)
		}
		defer picture.Close() // for the ways out before it is drawn
		show = func(r *lab.Report) error {
			return errors.Join(c.printReport(r, f.json), r.WriteSVG(picture), picture.Close())
		}
	}
	p := newProgress(c.stderr)
	o := lab.Options{Program: netlab.Self(), Say: p.say}
	if f.keep {
		o.Keep = func(r *lab.Report, n *netlab.Network, cpe, hag *netlab.Box) {
			p.done()
			if err := show(r); err != nil {
				fmt.Fprintln(c.stderr, "synbond:", oneLine(err))
			}
			explain(ctx, c.stderr, n, cpe, hag)
		}
	}
	report, err := scenario.Run(ctx, o)
	p.done()
	switch {
	case err == nil && f.keep: // shown already
	case ctx.Err() != nil:
		return errors.New("interrupted; the network is gone")
	case err != nil:
		return err
	default:
		err = show(report)
	}
	if err == nil && !report.OK {
		err = errReported
	}
	return err
}

func (c *invocation) printReport(r *lab.Report, asJSON bool) error {
	if !asJSON {
		r.Print(c.stdout, lab.Style{Colour: interactive(c.stdout), UTF8: utf8Locale()})
		return nil
	}
	enc := json.NewEncoder(c.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// utf8Locale tells whether what is printed is read as UTF-8: the first of these
// that is set says so (locale(7)).
func utf8Locale() bool {
	locale := strings.ToUpper(cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_CTYPE"), os.Getenv("LANG")))
	return strings.Contains(locale, "UTF-8") || strings.Contains(locale, "UTF8")
}

// explain tells how to enter the hosts, and waits for an interrupt.
func explain(ctx context.Context, w io.Writer, n *netlab.Network, cpe, hag *netlab.Box) {
	fmt.Fprintln(w, "The network stays up until you press Ctrl-C. To look around:")
	for _, h := range []*netlab.Host{n.Client, n.CPE, n.HAG, n.Server} {
		fmt.Fprintf(w, "  %-7s %s\n", h.Name, h.Enter())
	}
	for _, b := range []*netlab.Box{cpe, hag} {
		fmt.Fprintf(w, "  synbond flows --control %s\n", b.Control)
	}
	fmt.Fprintf(w, "  The server answers transfers on [%s]:5001 and %s:5001.\n", netlab.Server6, netlab.Server4)
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
