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

	"github.com/spf13/cobra"

	"github.com/synbond/synbond/internal/config"
	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/pcaps"
)

// replayCommand runs the decisions of a box on a capture file.
func replayCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay FILE [--role cpe|hag] [--action A] [--config FILE] [--out FILE] [--anonymize] [--json] [--expect FILE]",
		Short: "show the decisions of a box on a capture, and the packets that it would send",
		Example: "  synbond replay in.pcap --role cpe --out out.pcapng\n" +
			"  synbond replay in.pcap --anonymize --out shared.pcapng",
		Args: oneArgument("a capture file, or - for standard input"),
	}
	o := bindReplay(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) }
	return cmd
}

// run replays the capture in the file in.
func (o *replayOptions) run(cmd *cobra.Command, in string) error {
	ctx := cmd.Context()
	cfg, err := o.config()
	if err != nil {
		return err
	}
	source, size, err := openCapture(in, o.out)
	if err != nil {
		return err
	}
	defer source.Close()
	err = o.replay(cmd, in, cfg, newReplayProgress(cmd.ErrOrStderr(), interruptible(ctx, source, size), size))
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted; the results up to here are complete")
	}
	return err
}

// replay replays the capture that p reads, and prints the decisions, up to an error.
func (o *replayOptions) replay(cmd *cobra.Command, in string, cfg pcaps.Config, p *replayProgress) error {
	expected, err := newExpectation(o.expect)
	if err != nil {
		return err
	}
	reader, err := pcaps.NewReader(p)
	if err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	writer, closeOut, err := createCapture(o.out)
	if err != nil {
		return err
	}
	printer := expected.with(newReplayPrinter(cmd.OutOrStdout(), o.json, p))
	cfg.Decided, cfg.Progress = printer.decided, p.show
	if o.anonymize {
		cfg.Anonymized, writer = writer, nil
	}
	report, err := pcaps.Replay(cmd.Context(), reader, writer, cfg)
	if cfg.Anonymized != nil {
		err = errors.Join(err, cfg.Anonymized.Flush())
	}
	p.clear()
	ended := printer.end(report)
	if errors.Is(err, ended) { // the output fails, and has failed before
		ended = nil
	}
	if d := reader.Damage(); d.Records > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "synbond: warning: %s: %s\n", in, damageText(d))
	}
	switch {
	case errors.Is(err, pcaps.ErrTruncated):
		fmt.Fprintf(cmd.ErrOrStderr(), "synbond: warning: %s: %s; the results up to here are complete\n", in, oneLine(err))
		err = nil
	case errors.Is(err, pcaps.ErrFormat):
		err = fmt.Errorf("%s: %w", in, err)
	}
	err = errors.Join(err, closeOut(), ended)
	if err == nil {
		err = expected.compare(cmd.ErrOrStderr())
	}
	return err
}

// damageText returns a text for the damaged records of a capture.
func damageText(d pcaps.Damage) string {
	if d.Records == 1 {
		return fmt.Sprintf("1 damaged record left out (%d bytes), %s", d.Bytes, d.First)
	}
	return fmt.Sprintf("%d damaged records left out (%d bytes), the first %s", d.Records, d.Bytes, d.First)
}

// replayOptions are the flags of the command.
type replayOptions struct {
	flags *config.Flags
	out   string // capture
	file  string // configuration
	role  string
	paths []string // interfaces
	json  bool

	anonymize bool   // write the capture itself, for others to read
	expect    string // JSON of an earlier replay
}

func bindReplay(cmd *cobra.Command) *replayOptions {
	o, f := &replayOptions{}, cmd.Flags()
	bindRole(cmd, &o.role, "cpe: SYNs enter on the plain side; hag: on the multipath side (default: by their MP_CAPABLE)", core.CPE, core.HAG)
	o.flags = config.NewFlags(f, "", "action", "plain")
	completeKeys(cmd, o.flags)
	f.StringSliceVar(&o.paths, "path", nil, "interface (`IF`) that faces the multipath side (repeat for more)")
	bindFile(f, &o.file)
	f.StringVar(&o.out, "out", "", "write the packets that the box would have sent to this `FILE`: pcap if it ends with .pcap, else pcapng")
	f.BoolVar(&o.anonymize, "anonymize", false, "write the capture itself to the file of --out, with other addresses, payloads, keys and names, so that it can be shared")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	f.StringVar(&o.expect, "expect", "", "compare the results with this `FILE`, the --json of an earlier replay; exit with 1 if they differ")
	return o
}

// config returns the configuration of a replay.
func (o *replayOptions) config() (pcaps.Config, error) {
	if o.out == "-" {
		return pcaps.Config{}, usagef("--out needs a file: standard output has the decisions")
	}
	if o.anonymize && o.out == "" {
		return pcaps.Config{}, usagef("--anonymize needs --out FILE, for the capture to be shared")
	}
	s, err := config.Load("", o.file, o.flags)
	if err != nil {
		return pcaps.Config{}, err
	}
	policy, err := s.Policy()
	if err != nil {
		return pcaps.Config{}, err
	}
	cfg := pcaps.Config{
		Role: core.Role(o.role), Plain: s.Plain, Paths: o.paths, Join: s.Joins(), Policy: policy, Table: s.Table(), Learnt: s.Learnt(),
	}
	if len(o.paths) == 0 {
		for _, p := range s.Paths {
			cfg.Paths = append(cfg.Paths, p.Interface)
		}
	}
	for _, name := range cfg.Plain {
		if slices.Contains(cfg.Paths, name) {
			return cfg, usagef("interface %s is named twice: it can be on one side only", name)
		}
	}
	return cfg, nil
}

// openCapture opens a capture file. The size is 0 if it is no regular file.
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
		return nil, 0, usagef("--out %s is the input", out)
	}
	if at.Mode().IsRegular() {
		size = at.Size()
	}
	return f, size, nil
}

// interruptible reads a source until ctx ends. A source of size 0, no regular file,
// may keep a read waiting.
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

// createCapture creates the output, unless its name is "".
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

// replayPrinter prints the results of a replay, as text or as JSON.
type replayPrinter struct {
	decided func(pcaps.Decision) error
	end     func(*pcaps.Report) error
}

func newReplayPrinter(stdout io.Writer, asJSON bool, p *replayProgress) replayPrinter {
	w := bufio.NewWriter(stdout)
	printer := replayPrinter{
		decided: (&pcaps.Lines{W: w}).Decision,
		end:     func(r *pcaps.Report) error { return r.Print(w) },
	}
	if asJSON {
		printer = jsonPrinter(w)
	}
	decided, end := printer.decided, printer.end
	printer.end = func(r *pcaps.Report) error {
		if err := end(r); err != nil {
			return err
		}
		return w.Flush()
	}
	if interactive(stdout) { // show each decision at once
		printer.decided = func(d pcaps.Decision) error {
			p.clear()
			return errors.Join(decided(d), w.Flush())
		}
	}
	return printer
}

// jsonPrinter prints one object, with each decision on a line of its own.
func jsonPrinter(w io.Writer) replayPrinter {
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
	return replayPrinter{
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

// replayProgress shows the progress of a replay on a terminal.
type replayProgress struct {
	source io.Reader
	size   int64 // 0 if unknown
	w      io.Writer
	tty    bool
	read   int64 // bytes
	start  time.Time
	shown  time.Time // when the line was last drawn
	there  bool      // whether the line is drawn
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
