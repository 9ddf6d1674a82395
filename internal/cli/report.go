//go:build linux

package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/config"
	"github.com/synbond/synbond/pcaps"
)

// reportCommand writes an archive for whoever helps.
func reportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report [--config FILE] [--control PATH] [--out FILE] [--anonymize] [--recording]",
		Short: "write an archive with the state of this machine and its box, without secrets, for whoever helps",
		Example: "  synbond report --config /etc/synbond/cpe.toml\n" +
			"  synbond report --config /etc/synbond/cpe.toml --anonymize --recording --out report.tar.gz",
		Args: noArguments,
	}
	r, f := &reporter{program: "/proc/self/exe"}, cmd.Flags()
	f.StringVar(&r.file, "config", "", "configuration `FILE` (TOML) of the box, for the archive without its secrets")
	bindControl(cmd, &r.control)
	f.StringVar(&r.out, "out", "", "`FILE` of the archive (default synbond-report-TIME.tar.gz)")
	f.BoolVar(&r.anonymize, "anonymize", false, "replace all IP and MAC addresses, the same by the same")
	f.BoolVar(&r.recording, "recording", false, "add the newest files of the box's recording; without --anonymize with addresses and keys")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return r.run(cmd.Context(), cmd.OutOrStdout()) }
	return cmd
}

// reporter collects the files of a report.
type reporter struct {
	file, control, out   string
	anonymize, recording bool
	program              string // of synbond

	w          *tar.Writer
	now        time.Time
	secrets    []string
	anonymizer *pcaps.Anonymizer // nil to leave addresses as they are
	notes      bytes.Buffer      // about each file
}

// run writes the archive, and its name to stdout.
func (r *reporter) run(ctx context.Context, stdout io.Writer) (err error) {
	r.now = time.Now()
	if r.out == "" {
		r.out = "synbond-report-" + r.now.UTC().Format("20060102T150405Z") + ".tar.gz"
	}
	if r.anonymize {
		r.anonymizer = pcaps.NewAnonymizer()
	}
	configuration, err := r.configuration() // first: it has the secrets
	if err != nil {
		return err
	}
	f, err := os.OpenFile(r.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	z := gzip.NewWriter(f)
	r.w = tar.NewWriter(z)
	err = r.collect(ctx, configuration)
	if err = errors.Join(err, r.w.Close(), z.Close(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(r.out))
	}
	_, err = fmt.Fprintf(stdout, "%s\n", r.out)
	return err
}

// configuration returns the file of the box without its secrets, nil without a file.
func (r *reporter) configuration() (text []byte, err error) {
	if r.file == "" {
		return nil, nil
	}
	text, r.secrets, err = config.Redact(r.file)
	return text, err
}

// collect writes all files, up to an error of the archive. What is not to be had is noted.
func (r *reporter) collect(ctx context.Context, configuration []byte) error {
	r.notef("A report of synbond, written at %s. Secrets are left out%s.\n\n", r.now.UTC().Format(time.RFC3339),
		map[bool]string{true: ", and addresses are replaced"}[r.anonymize])
	if configuration != nil {
		if err := r.add("config.toml", configuration); err != nil {
			return err
		}
	}
	for _, collect := range []func(context.Context) error{r.commands, r.box, r.sysctls, r.log} {
		if err := collect(ctx); err != nil {
			return err
		}
	}
	return r.add("README.txt", r.notes.Bytes())
}

func (r *reporter) notef(format string, args ...any) { fmt.Fprintf(&r.notes, format, args...) }

// add adds a text file, without secrets and, if that is wanted, with other addresses.
func (r *reporter) add(name string, text []byte) error {
	for _, s := range r.secrets {
		for _, form := range []string{s, strings.Trim(fmt.Sprintf("%q", s), `"`)} {
			text = bytes.ReplaceAll(text, []byte(form), []byte("(left out)"))
		}
	}
	if r.anonymizer != nil {
		text = r.anonymizer.Text(text)
	}
	return r.write(name, text)
}

// write adds a file as it is.
func (r *reporter) write(name string, b []byte) error {
	header := &tar.Header{Name: "synbond-report/" + name, Mode: 0o600, Size: int64(len(b)), ModTime: r.now}
	if err := r.w.WriteHeader(header); err != nil {
		return err
	}
	_, err := r.w.Write(b)
	return err
}

// box adds the answers of the running box, if there is one.
func (r *reporter) box(ctx context.Context) error {
	socket, err := controlPath(r.control)
	if err != nil {
		r.notef("box: %s\n", err)
		return nil
	}
	var flows []byte
	for name, request := range map[string]string{
		"flows.json": api.FlowsRequest(true), "paths.json": api.PathsResource, "findings.json": api.FindingsResource,
	} {
		answer, err := ask(ctx, socket, request)
		if err != nil {
			r.notef("%s: %s\n", name, err)
			continue
		}
		if name == "flows.json" {
			flows = answer
		}
		if err := r.add(name, answer); err != nil {
			return err
		}
	}
	return r.recorded(flows)
}

// Bounds of the recording in a report.
const mostRecordings = 3

// recorded adds the newest files of the recording that the box names, if that is wanted.
func (r *reporter) recorded(flows []byte) error {
	if !r.recording {
		return nil
	}
	d, err := api.Decode[api.Dump](flows)
	if err != nil || d.Totals.Recording == nil || d.Totals.Recording.File == "" {
		r.notef("recording: the box records nothing\n")
		return nil
	}
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(d.Totals.Recording.File), d.Role+"-*.pcapng")) // the pattern is right
	slices.Sort(files)
	for _, file := range files[max(0, len(files)-mostRecordings):] {
		b, err := os.ReadFile(file)
		if err == nil && r.anonymizer != nil {
			b, err = r.anonymizer.Capture(b)
		}
		if err != nil {
			r.notef("recording: %s\n", err)
			continue
		}
		if err := r.write(filepath.Base(file), b); err != nil {
			return err
		}
	}
	return nil
}
