//go:build linux

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

	"github.com/spf13/cobra"

	"github.com/synbond/synbond/internal/lab"
	"github.com/synbond/synbond/internal/netlab"
)

// labFlags are the flags of the command.
type labFlags struct {
	scenario, svg    string
	list, json, keep bool
}

// labCommand builds a network in namespaces, runs a scenario in it, and reports on it.
func labCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "lab [--scenario NAME] [--list] [--json] [--svg FILE] [--keep]",
		Short:   "build a hybrid access network on this machine, run it, report, clean up",
		Example: "  synbond lab\n  synbond lab --scenario failover --svg failover.svg",
		Args:    noArguments,
	}
	l, f := &labFlags{}, cmd.Flags()
	f.StringVar(&l.scenario, "scenario", lab.Scenarios[0].Name, "`NAME` of the scenario to run")
	f.BoolVar(&l.list, "list", false, "list the scenarios")
	f.BoolVar(&l.json, "json", false, "print one JSON object")
	f.StringVar(&l.svg, "svg", "", "also draw the charts into this `FILE`")
	f.BoolVar(&l.keep, "keep", false, "leave the network up until interrupted, and print how to enter it")
	var names []string
	for _, s := range lab.Scenarios {
		names = append(names, s.Name)
	}
	complete(cmd, "scenario", names)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runLab(cmd, *l) }
	return cmd
}

func runLab(cmd *cobra.Command, f labFlags) error {
	if f.list {
		for _, s := range lab.Scenarios {
			fmt.Fprintf(cmd.OutOrStdout(), "%-16s %s\n", s.Name, s.Help)
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
	return runScenario(cmd, scenario, f)
}

// runScenario runs a scenario and shows its report.
func runScenario(cmd *cobra.Command, scenario lab.Scenario, f labFlags) error {
	ctx, stdout, stderr := cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	show := func(r *lab.Report) error { return printReport(stdout, r, f.json) }
	if f.svg != "" {
		picture, err := os.Create(f.svg) // first: a scenario takes long, and the name may be wrong
		if err != nil {
			return fmt.Errorf("charts: %w", err)
		}
		defer picture.Close() // if the scenario fails
		show = func(r *lab.Report) error {
			return errors.Join(printReport(stdout, r, f.json), r.WriteSVG(picture), picture.Close())
		}
	}
	p := newProgress(stderr)
	o := lab.Options{Program: netlab.Self(), Say: p.step}
	if f.keep {
		o.Keep = func(r *lab.Report, n *netlab.Network, cpe, hag *netlab.Box) {
			p.done()
			if err := show(r); err != nil {
				fmt.Fprintln(stderr, "synbond:", oneLine(err))
			}
			explain(ctx, stderr, n, cpe, hag)
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

func printReport(w io.Writer, r *lab.Report, asJSON bool) error {
	if !asJSON {
		r.Print(w, lab.Style{Colour: interactive(w), UTF8: utf8Locale()})
		return nil
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// utf8Locale reports whether the terminal reads UTF-8: the first of these variables
// that is set decides (locale(7)).
func utf8Locale() bool {
	locale := strings.ToUpper(cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_CTYPE"), os.Getenv("LANG")))
	return strings.Contains(locale, "UTF-8") || strings.Contains(locale, "UTF8")
}

// explain prints how to enter the hosts, and waits for an interrupt.
func explain(ctx context.Context, w io.Writer, n *netlab.Network, cpe, hag *netlab.Box) {
	fmt.Fprintln(w, "The network stays up until you press Ctrl-C. To look around:")
	for _, h := range []*netlab.Host{n.Client, n.CPE, n.HAG, n.Server} {
		fmt.Fprintf(w, "  %-7s %s\n", h.Name, h.Enter())
	}
	for _, b := range []*netlab.Box{cpe, hag} {
		if b == nil { // beside a gateway
			continue
		}
		fmt.Fprintf(w, "  synbond flows --control %s\n", b.Control)
	}
	fmt.Fprintf(w, "  The server answers transfers on [%s]:5001 and %s:5001.\n", netlab.Server6, netlab.Server4)
	<-ctx.Done()
}

// progress shows the current step: on a terminal in a line that
// rewrites itself, elsewhere in a line per step.
type progress struct {
	w     io.Writer
	tty   bool
	start time.Time
}

func newProgress(w io.Writer) *progress {
	return &progress{w: w, tty: interactive(w), start: time.Now()}
}

func (p *progress) step(name string) {
	format := "%5.1f s  %s\n"
	if p.tty {
		format = "\r\x1b[K%5.1f s  %s"
	}
	fmt.Fprintf(p.w, format, time.Since(p.start).Seconds(), name)
}

// done removes the line that rewrites itself.
func (p *progress) done() {
	if p.tty {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
