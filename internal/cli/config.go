package cli

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/pflag"

	"github.com/synbond/synbond/internal/box"
	"github.com/synbond/synbond/pcaps"
)

// settings is what can be said about a box, in the configuration file and by
// flags. docs/configuration.md and examples/ explain every key.
type settings struct {
	Plain        []string       `toml:"plain"`
	Path         []pathSettings `toml:"path"`
	Join         []string       `toml:"join"`
	OwnSource4   bool           `toml:"own_source4"`
	Action       string         `toml:"action"`
	Control      string         `toml:"control"`
	Queue        uint16         `toml:"queue"`
	Metrics      string         `toml:"metrics"`
	Record       string         `toml:"record"`
	RecordFiles  int            `toml:"record_files"`
	RecordSize   int            `toml:"record_file_size"`
	LogLevel     string         `toml:"log_level"`
	StateDir     string         `toml:"state_dir"`
	FirstDown    string         `toml:"first_path_down"`
	Congestion   string         `toml:"congestion_control"`
	Window       uint16         `toml:"initial_window"`
	Probe        probeSettings  `toml:"probe"`
	Rule         []ruleSettings `toml:"rule"`
	EndToEnd     string         `toml:"end_to_end"`
	EndToEndDSCP uint8          `toml:"end_to_end_dscp"`
	Limits       struct {
		Flows    int `toml:"flows"`
		HalfOpen int `toml:"half_open"`
		Ended    int `toml:"ended"`
	} `toml:"limits"`
	Learn struct {
		Prefix4 int      `toml:"prefix4"`
		Prefix6 int      `toml:"prefix6"`
		TTL     duration `toml:"ttl"`
		Max     int      `toml:"max"`
	} `toml:"learn"`
	Timeouts struct {
		Dial      duration `toml:"dial"`
		HalfOpen  duration `toml:"half_open"`
		Keepalive duration `toml:"keepalive"`
	} `toml:"timeouts"`

	file  string   // that was read last
	lines []string // of it
}

// ruleSettings is a rule of the policy. What is left out matches everything.
type ruleSettings struct {
	Name      string   `toml:"name"`
	From      []string `toml:"from"`
	To        []string `toml:"to"`
	Ports     []string `toml:"ports"`
	Side      string   `toml:"side"`
	MPCapable *bool    `toml:"mp_capable"`
	Action    string   `toml:"action"`
	Paths     []string `toml:"paths"`
	After     size     `toml:"after"`
}

// duration is a time in the file, such as "20s".
type duration struct{ time.Duration }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *duration) UnmarshalText(b []byte) error {
	var err error
	if d.Duration, err = time.ParseDuration(string(b)); err == nil && d.Duration <= 0 {
		err = fmt.Errorf("%s is not positive", b)
	}
	return err
}

// defaultQueue is the NFQUEUE that a box uses unless told otherwise.
const defaultQueue = 91

// defaultDSCP marks SYNs with which hosts offer MPTCP themselves. It is of the
// pool for experimental and local use (RFC 2474, section 6).
const defaultDSCP = 43

// defaultWindow makes a path of 120 ms as fast as 40 Mbit/s within three round
// trips, and is 37 ms of a line of 20 Mbit/s: see docs/adr/0013-goodput.md.
const defaultWindow = 64

func defaults(role box.Role) settings {
	return settings{
		Action: "relay", EndToEnd: "marked", EndToEndDSCP: defaultDSCP, Control: defaultControl(role), Queue: defaultQueue,
		StateDir: "/var/lib/synbond", FirstDown: "pass", LogLevel: "info", RecordFiles: 10, RecordSize: 10_000_000,
		Window: defaultWindow,
	}
}

func defaultControl(role box.Role) string { return "/run/synbond/" + string(role) + ".sock" }

// merge reads the file, then says again what the flags have said.
func (s *settings) merge(file string, flags *pflag.FlagSet) error {
	said := *s
	// The decoder fills slices in place: they must not be the flags'.
	s.Plain, s.Path, s.Join = nil, nil, nil
	if err := s.read(file); err != nil {
		return err
	}
	overrides := map[string]func(){
		"plain":           func() { s.Plain = said.Plain },
		"path":            func() { s.Path = said.Path },
		"join":            func() { s.Join = said.Join },
		"own-source4":     func() { s.OwnSource4 = said.OwnSource4 },
		"action":          func() { s.Action = said.Action },
		"control":         func() { s.Control = said.Control },
		"queue":           func() { s.Queue = said.Queue },
		"metrics":         func() { s.Metrics = said.Metrics },
		"record":          func() { s.Record = said.Record },
		"state-dir":       func() { s.StateDir = said.StateDir },
		"first-path-down": func() { s.FirstDown = said.FirstDown },
		"log-level":       func() { s.LogLevel = said.LogLevel },

		"congestion-control": func() { s.Congestion = said.Congestion },
		"initial-window":     func() { s.Window = said.Window },
	}
	flags.Visit(func(f *pflag.Flag) {
		if override, ok := overrides[f.Name]; ok {
			override()
		}
	})
	return nil
}

// read fills s from a TOML file. A key that does not exist is an error.
func (s *settings) read(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	s.file, s.lines = file, strings.Split(string(b), "\n")
	err = toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(s)
	var unknown *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case errors.As(err, &unknown) && len(unknown.Errors) > 0:
		line, _ := unknown.Errors[0].Position()
		return fmt.Errorf("%s:%d: unknown key %s", file, line, strings.Join(unknown.Errors[0].Key(), "."))
	case errors.As(err, &wrong):
		line, _ := wrong.Position()
		what := strings.TrimPrefix(wrong.Error(), "toml: ")
		if strings.Contains(what, "struct field") { // the decoder speaks of Go's types here
			what = "another type of value is needed, see docs/configuration.md"
		}
		return fmt.Errorf("%s:%d: %s: %s", file, line, s.line(line), what)
	case err != nil:
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, limit := range []struct {
		key            string
		n, least, most int
	}{
		{"limits.flows", s.Limits.Flows, 0, math.MaxInt}, {"limits.half_open", s.Limits.HalfOpen, 0, math.MaxInt},
		{"limits.ended", s.Limits.Ended, 0, math.MaxInt}, {"learn.max", s.Learn.Max, 0, math.MaxInt},
		{"end_to_end_dscp", int(s.EndToEndDSCP), 0, 63},
		{"learn.prefix4", s.Learn.Prefix4, 0, 32}, {"learn.prefix6", s.Learn.Prefix6, 0, 128},
		{"record_files", s.RecordFiles, 1, math.MaxInt},
		{"record_file_size", s.RecordSize, pcaps.LeastFileSize, math.MaxInt},
	} {
		if limit.n < limit.least || limit.n > limit.most {
			return fmt.Errorf("%s: %s: %d is out of range", file, limit.key, limit.n)
		}
	}
	return nil
}

// line returns a line of the file, counted from 1.
func (s *settings) line(n int) string {
	if n < 1 || n > len(s.lines) {
		return ""
	}
	return strings.TrimSpace(s.lines[n-1])
}
