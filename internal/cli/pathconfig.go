package cli

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/synbond/synbond/internal/paths"
)

// pathSettings is a path.
type pathSettings struct {
	Interface   string   `toml:"interface"`
	Name        string   `toml:"name"`
	Join        []string `toml:"join"`
	Mode        mode     `toml:"mode"`
	BusyRate    rate     `toml:"busy_rate"`
	BusyFor     duration `toml:"busy_for"`
	IdleFor     duration `toml:"idle_for"`
	Quota       size     `toml:"quota"`
	QuotaPeriod string   `toml:"quota_period"`
	QuotaStart  int      `toml:"quota_start"`
	Rate        rate     `toml:"rate"`
}

// probeSettings says how a CPE finds out about its paths, and what both boxes
// prove themselves by.
type probeSettings struct {
	Every   duration `toml:"every"`
	Idle    duration `toml:"idle"`
	Silence duration `toml:"silence"`
	Hold    duration `toml:"hold"`
	Secret  string   `toml:"secret"`
	Off     bool     `toml:"off"`
}

func (p *probeSettings) config() paths.ProbeConfig {
	return paths.ProbeConfig{
		Every: p.Every.Duration, Idle: p.Idle.Duration, Silence: p.Silence.Duration, Hold: p.Hold.Duration,
		Secret: p.Secret, Off: p.Off,
	}
}

func (p *pathSettings) name() string { return cmp.Or(p.Name, p.Interface) }

// path turns the settings into a path.
func (p *pathSettings) path() (out paths.Path, err error) {
	out = paths.Path{Name: p.name(), Interface: p.Interface, Mode: cmp.Or(paths.Mode(p.Mode), paths.Always), Rate: uint64(p.Rate)}
	if out.Join, err = addrPorts(p.Join); err != nil {
		return out, err
	}
	out.Busy = paths.Busy{Rate: uint64(p.BusyRate), For: p.BusyFor.Duration, Idle: p.IdleFor.Duration}
	out.Quota = paths.Quota{Bytes: uint64(p.Quota), Period: paths.Period(p.QuotaPeriod), Start: p.QuotaStart}
	if p.Quota > 0 && p.QuotaPeriod == "" {
		out.Quota.Period = paths.Month
	}
	return out, nil
}

// paths turns the settings into the paths of a box.
func (s *settings) paths() ([]paths.Path, error) {
	var all []paths.Path
	for i := range s.Path {
		p, err := s.Path[i].path()
		if err != nil {
			return nil, usageError{fmt.Errorf("path %s: %w", p.Name, err)}
		}
		all = append(all, p)
	}
	return all, nil
}

// pathFlag reads a path as it is given by --path.
type pathFlag []pathSettings

// pathWords are what may follow the interface of --path, each with how to write
// it and what reads it.
var pathWords = []struct {
	key, value string
	read       func(p *pathSettings, value string) error
}{
	{"join", "ADDR:PORT", func(p *pathSettings, v string) error { p.Join = append(p.Join, v); return nil }},
	{"name", "N", func(p *pathSettings, v string) error { p.Name = v; return nil }},
	{"mode", "M", func(p *pathSettings, v string) error { return p.Mode.UnmarshalText([]byte(v)) }},
	{"busy", "RATE", func(p *pathSettings, v string) error { return p.BusyRate.UnmarshalText([]byte(v)) }},
	{"quota", "SIZE/PERIOD", func(p *pathSettings, v string) error {
		v, p.QuotaPeriod, _ = strings.Cut(v, "/")
		return p.Quota.UnmarshalText([]byte(v))
	}},
	{"rate", "RATE", func(p *pathSettings, v string) error { return p.Rate.UnmarshalText([]byte(v)) }},
}

// Set implements [pflag.Value].
func (f *pathFlag) Set(value string) error {
	words := strings.Split(value, ",")
	p := pathSettings{Interface: words[0]}
	for _, word := range words[1:] {
		if err := p.word(word); err != nil {
			return err
		}
	}
	*f = append(*f, p)
	return nil
}

// word takes one word after the interface.
func (p *pathSettings) word(word string) error {
	if word == "backup" { // the short form of mode=backup
		p.Mode = mode(paths.AsBackup)
		return nil
	}
	key, value, _ := strings.Cut(word, "=")
	for _, w := range pathWords {
		if w.key == key {
			return w.read(p, value)
		}
	}
	return fmt.Errorf("%q is none of %s", word, pathHelp())
}

// pathHelp lists the words.
func pathHelp() (text string) {
	for _, w := range pathWords {
		text += w.key + "=" + w.value + ", "
	}
	return text + "backup"
}

// String implements [pflag.Value].
func (f *pathFlag) String() string { return "" }

// Type implements [pflag.Value].
func (f *pathFlag) Type() string { return "IF[,KEY=VALUE…]" }

// mode is when a path is used, rate is in bit/s, size in bytes.
type (
	mode paths.Mode
	rate uint64
	size uint64
)

// UnmarshalText implements [encoding.TextUnmarshaler].
func (m *mode) UnmarshalText(b []byte) error {
	v, err := paths.ParseMode(string(b))
	*m = mode(v)
	return err
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (r *rate) UnmarshalText(b []byte) error {
	v, err := paths.ParseRate(string(b))
	*r = rate(v)
	return err
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *size) UnmarshalText(b []byte) error {
	v, err := paths.ParseSize(string(b))
	*s = size(v)
	return err
}
