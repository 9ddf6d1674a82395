package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/synbond/synbond/internal/box"
	"github.com/synbond/synbond/pcaps"
)

// runReplay drives the code that decides in a box with a capture file.
func runReplay(ctx context.Context, c *invocation) error {
	var o replayOptions
	o.bind(c)
	var err error
	if o.in, err = c.parseOne("a capture file, or - for standard input"); err != nil {
		return err
	}
	cfg, err := o.config(c)
	if err != nil {
		return err
	}
	source, size, err := openCapture(o.in, o.out)
	if err != nil {
		return err
	}
	defer source.Close()
	err = c.replay(ctx, o, cfg, newReplayProgress(c.stderr, interruptible(ctx, source, size), size))
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted; what was replayed until then is complete")
	}
	return err
}

// replay replays what p reads, and prints what it finds, up to an error.
func (c *invocation) replay(ctx context.Context, o replayOptions, cfg pcaps.Config, p *replayProgress) error {
	reader, err := pcaps.NewReader(p)
	if err != nil {
		return fmt.Errorf("%s: %w", o.in, err)
	}
	writer, closeOut, err := createCapture(o.out)
	if err != nil {
		return err
	}
	say := c.teller(o.json, p)
	cfg.Decided, cfg.Progress = say.decided, p.show
	report, err := pcaps.Replay(ctx, reader, writer, cfg)
	p.clear()
	ended := say.end(report)
	if errors.Is(err, ended) { // nothing can be printed, since a decision could not be
		ended = nil
	}
	switch {
	case errors.Is(err, pcaps.ErrTruncated):
		fmt.Fprintf(c.stderr, "synbond: warning: %s: %s; what comes before is complete\n", o.in, oneLine(err))
		err = nil
	case errors.Is(err, pcaps.ErrFormat):
		err = fmt.Errorf("%s: %w", o.in, err)
	}
	return errors.Join(err, closeOut(), ended)
}

// replayOptions are the flags of the command.
type replayOptions struct {
	settings settings
	in, out  string // captures
	file     string // configuration
	role     string
	paths    []string // interfaces
	json     bool
}

func (o *replayOptions) bind(c *invocation) {
	o.settings = defaults("")
	f := c.flags
	f.StringVar(&o.role, "role", "", "cpe: SYNs enter on the plain side; hag: on the multipath side (default: by their MP_CAPABLE)")
	f.StringVar(&o.settings.Action, "action", o.settings.Action, actionHelp)
	f.StringVar(&o.file, "config", "", "configuration file of a box (TOML), for its policy; flags go before it")
	f.StringVar(&o.out, "out", "", "write what the box would have sent to this file: pcap if it ends with .pcap, else pcapng")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	f.StringSliceVar(&o.settings.Plain, "plain", nil, "interface of the capture that faces the plain side (repeat for more)")
	f.StringSliceVar(&o.paths, "path", nil, "interface of the capture that faces the multipath side (repeat for more)")
}

// config turns the flags, and the file that fills in what no flag says, into the
// configuration of a replay.
func (o *replayOptions) config(c *invocation) (pcaps.Config, error) {
	if o.out == "-" {
		return pcaps.Config{}, usagef("--out needs a file: standard output has the decisions")
	}
	role := box.Role(o.role)
	if !slices.Contains([]box.Role{"", box.CPE, box.HAG}, role) {
		return pcaps.Config{}, usagef("role %q is none of cpe, hag", o.role)
	}
	s := &o.settings
	if o.file != "" {
		if err := s.merge(o.file, c.flags); err != nil {
			return pcaps.Config{}, err
		}
	}
	policy, err := s.policy()
	if err != nil {
		return pcaps.Config{}, err
	}
	cfg := pcaps.Config{Role: role, Plain: s.Plain, Paths: o.paths, Policy: policy, Table: s.table(), Learnt: s.learnt()}
	if len(o.paths) == 0 {
		for _, p := range s.Path {
			cfg.Paths = append(cfg.Paths, p.Interface)
		}
	}
	for _, name := range cfg.Plain {
		if slices.Contains(cfg.Paths, name) {
			return cfg, usagef("interface %s is named twice: it can be on one side only", name)
		}
	}
	cfg.Join, err = addrPorts(s.Join)
	return cfg, err
}

// openCapture opens a capture file. The size is 0 for what is no regular file.
func openCapture(in, out string) (f *os.File, size int64, err error) {
	if in == "-" {
		f = os.Stdin
	} else if f, err = os.Open(in); err != nil {
		return nil, 0, err
	}
	at, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if over, err := os.Stat(out); err == nil && os.SameFile(at, over) {
		return nil, 0, usagef("--out %s is the capture that is to be read", out)
	}
	if at.Mode().IsRegular() {
		size = at.Size()
	}
	return f, size, nil
}

// interruptible reads a source until ctx ends, although one that is no regular file,
// of size 0, may keep a read waiting.
func interruptible(ctx context.Context, source io.Reader, size int64) io.Reader {
	if size > 0 {
		return source
	}
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	go func() {
		_, err := io.Copy(w, source)
		w.CloseWithError(err)
	}()
	return r
}

// createCapture creates the output, if there is to be one.
func createCapture(name string) (w *pcaps.Writer, closes func() error, err error) {
	if name == "" {
		return nil, func() error { return nil }, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, nil, err
	}
	return pcaps.NewWriter(f, pcaps.FormatOf(name)), f.Close, nil
}

// teller prints what a replay finds, in the form that was asked for.
type teller struct {
	decided func(pcaps.Decision) error
	end     func(*pcaps.Report) error
}

func (c *invocation) teller(asJSON bool, p *replayProgress) teller {
	w := bufio.NewWriter(c.stdout)
	say := teller{
		decided: (&pcaps.Lines{W: w}).Decision,
		end:     func(r *pcaps.Report) error { return r.Print(w) },
	}
	if asJSON {
		say = jsonTeller(w)
	}
	decided, end := say.decided, say.end
	say.end = func(r *pcaps.Report) error {
		if err := end(r); err != nil {
			return err
		}
		return w.Flush()
	}
	if interactive(c.stdout) { // where each decision is to be seen at once
		say.decided = func(d pcaps.Decision) error {
			p.clear()
			return errors.Join(decided(d), w.Flush())
		}
	}
	return say
}

// jsonTeller prints one object, with each decision as it comes on a line of its own.
func jsonTeller(w io.Writer) teller {
	between := "{\"decisions\":[\n"
	item := func(v any) error {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s%s", between, b)
		between = ",\n"
		return err
	}
	return teller{
		decided: func(d pcaps.Decision) error { return item(d) },
		end: func(r *pcaps.Report) error {
			if between != ",\n" {
				fmt.Fprint(w, between)
			}
			between = "\n],\"flows\":[\n"
			for _, f := range r.Flows {
				if err := item(f); err != nil {
					return err
				}
			}
			if between != ",\n" {
				fmt.Fprint(w, between)
			}
			between = "\n],\"totals\":"
			err := item(r.Totals)
			_, err2 := fmt.Fprintln(w, "}")
			return errors.Join(err, err2)
		},
	}
}

// replayProgress shows on a terminal how far a replay has come.
type replayProgress struct {
	source io.Reader
	size   int64 // 0 if it is not known
	w      io.Writer
	tty    bool
	read   int64 // bytes
	start  time.Time
	shown  time.Time // when the line was last drawn
	there  bool      // it is
}

func newReplayProgress(w io.Writer, source io.Reader, size int64) *replayProgress {
	now := time.Now()
	return &replayProgress{source: source, size: size, w: w, tty: interactive(w), start: now, shown: now}
}

// Read implements [io.Reader].
func (p *replayProgress) Read(b []byte) (int, error) {
	n, err := p.source.Read(b)
	p.read += int64(n)
	return n, err
}

// show draws the line anew, some times a second.
func (p *replayProgress) show(packets int) {
	if !p.tty || time.Since(p.shown) < 100*time.Millisecond {
		return
	}
	p.shown, p.there = time.Now(), true
	rate := float64(packets) / time.Since(p.start).Seconds()
	bar := bytesText(uint64(p.read))
	if p.size > 0 {
		const width = 40
		done := float64(p.read) / float64(p.size)
		full := min(int(done*width), width)
		bar = fmt.Sprintf("%s%s %3.0f %%", strings.Repeat("█", full), strings.Repeat("·", width-full), 100*done)
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s, %d packets, %.0f/s", bar, packets, rate)
}

// clear makes room for another line.
func (p *replayProgress) clear() {
	if p.there {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.there = false
	}
}
