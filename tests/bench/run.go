//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// pass is the network for one set of rounds.
type pass struct {
	name  string
	lines int
}

var passes = []pass{{"two lines", 2}, {"one line", 1}}

// A bencher runs the entries of the tables and collects the figures.
type bencher struct {
	options
	dir       string
	systems   []system
	workloads []workload
	results   results
}

// bench runs the whole benchmark.
func bench(ctx context.Context, args []string) error {
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	if err := netlab.Reexec(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bencher{options: o, dir: dir, results: newResults(thisMachine(), o)}
	b.workloads = wanted(o.only, workloads, func(w workload) string { return w.name })
	all := systems
	if o.before != "" {
		all = append(slices.Clone(systems), before(o.before))
	}
	for _, c := range wanted(o.only, all, func(c system) string { return c.name }) {
		if reason := c.provide(ctx); reason != "" {
			b.results.Skipped[c.name] = reason
			fmt.Fprintf(os.Stderr, "without %s: %s\n", c.name, reason)
			continue
		}
		b.systems = append(b.systems, c)
	}
	for _, p := range wanted(o.only, passes, func(p pass) string { return p.name }) {
		if err := b.pass(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return b.results.publish(os.Stdout, o)
}

// pass runs all rounds on one network. Each round begins with another system, so that
// none always runs first or after the same one.
func (b *bencher) pass(ctx context.Context, p pass) (err error) {
	n, err := buildNetwork(p.lines, b.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	if err := startServer(n.Server); err != nil {
		return err
	}
	for round := range b.rounds {
		for i := range b.systems {
			c := &b.systems[(i+round)%len(b.systems)]
			fmt.Fprintf(os.Stderr, "%s, round %d of %d: %s\n", p.name, round+1, b.rounds, c.name)
			if err := b.measureSystem(ctx, n, p, c, round); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return nil
}

// startServer starts the server's process and waits until it listens. The process
// ends with the network.
func startServer(h *netlab.Host) error {
	p := self(roleServer)
	cmd := h.Command(p.Path, p.Args...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := h.Start(cmd); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.Contains(line, "ready") {
		return fmt.Errorf("the server did not start: %q, %w", line, errors.Join(err, cmd.Wait()))
	}
	go cmd.Wait() //nolint:errcheck // it is killed in the end
	return nil
}

// measureSystem starts a system, verifies it, runs the workloads, and stops it.
func (b *bencher) measureSystem(ctx context.Context, n *network, p pass, c *system, round int) (err error) {
	busy, err := busyShare()
	if err != nil {
		return err
	}
	b.results.Busy = append(b.results.Busy, busy)
	s := &testbed{network: n, system: c, duration: b.duration(), flows: idleCount(b.quick)}
	if s.client, err = n.freshClient(); err != nil {
		return err
	}
	if s.boxes, err = c.start(ctx, n); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.boxes.close()) }()
	if err := s.verify(ctx); err != nil {
		b.fail(p, "verification", c, round, err)
		return context.Cause(ctx)
	}
	for _, w := range b.workloads {
		if p.lines == 1 && !w.oneLine || w.rounds > 0 && round >= w.rounds {
			continue
		}
		got, err := w.run(ctx, s)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			b.fail(p, w.name, c, round, err)
		default:
			b.results.add(p.name, w.name, c.name, round, got)
		}
		time.Sleep(settle)
	}
	return nil
}

// fail adds a system's failure in one round. The benchmark goes on.
func (b *bencher) fail(p pass, workload string, c *system, round int, err error) {
	fmt.Fprintf(os.Stderr, "%s failed, %s: %v\n", c.name, workload, err)
	b.results.fail(p.name, workload, c.name, round+1, err)
}

// settle is the time between workloads, for the connections that the last one closed.
const settle = 200 * time.Millisecond
