package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"

	"github.com/spf13/pflag"

	"github.com/synbond/synbond/internal/box"
	"github.com/synbond/synbond/pcaps"
	"github.com/synbond/synbond/state"
)

// boxCommand runs a box of that role.
func boxCommand(role box.Role) func(context.Context, *invocation) error {
	return func(ctx context.Context, c *invocation) error {
		var s settings
		config := s.bind(c.flags, role)
		if err := c.parse(); err != nil {
			return err
		}
		said := s // by flags, which go before the file also when it is read again
		cfg, err := s.config(role, *config, c.flags)
		if err != nil {
			return err
		}
		level, err := logLevel(s.LogLevel)
		if err != nil {
			return err
		}
		cfg.Log = slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: level}))
		s.record(&cfg)
		cfg.Policies = said.reload(ctx, *config, cfg.Log, func(next *settings) error {
			if *config == "" {
				return errors.New("there is no configuration file to read")
			}
			return next.mergeAgain(*config, c.flags, &s)
		})
		// The relay's loops keep a processor each, see package relay.
		runtime.GOMAXPROCS(2 * runtime.NumCPU())
		return box.Run(ctx, cfg, c.stderr)
	}
}

// bind declares the flags of a box. Each sets the same field of s as its key in
// the configuration file does. It returns where --config will be.
func (s *settings) bind(f *pflag.FlagSet, role box.Role) (config *string) {
	*s = defaults(role)
	f.StringSliceVar(&s.Plain, "plain", nil, "interface that faces hosts without MPTCP (repeat for more)")
	f.Var((*pathFlag)(&s.Path), "path", "interface of a path, and "+pathHelp()+"; the first is where new flows are routed (repeat for more)")
	if role != box.CPE {
		f.StringSliceVar(&s.Join, "join", nil, "HAG: address of this machine and port for further subflows, once per address family")
	}
	if role != box.HAG {
		f.BoolVar(&s.OwnSource4, "own-source4", s.OwnSource4, "CPE: dial IPv4 from this box's own address, where a client's would need NAT")
	}
	if role != box.HAG {
		f.StringVar(&s.FirstDown, "first-path-down", s.FirstDown, "CPE: what becomes of new flows then: pass or own-source")
		f.StringVar(&s.StateDir, "state-dir", s.StateDir, "CPE: folder in which the use of quotas is kept")
	}
	config = f.String("config", "", "configuration file (TOML); flags go before it")
	f.StringVar(&s.Action, "action", s.Action, actionHelp)
	f.StringVar(&s.Control, "control", s.Control, "path of the control socket")
	f.Uint16Var(&s.Queue, "queue", s.Queue, "number of the NFQUEUE")
	f.StringVar(&s.Metrics, "metrics", s.Metrics, "address for Prometheus metrics, such as [::1]:9100")
	f.StringVar(&s.Record, "record", s.Record, "folder in which handshakes are recorded")
	f.StringVar(&s.Congestion, "congestion-control", s.Congestion, "congestion control of multipath legs, such as bbr; default the kernel's")
	f.Uint16Var(&s.Window, "initial-window", s.Window, "initial window of their subflows, in segments, as long as nothing better is learnt; 0 for the kernel's")
	f.StringVar(&s.LogLevel, "log-level", s.LogLevel, "debug, info, warn or error")
	return config
}

var actionHelp = "default action: " + strings.Join(state.Actions[:], ", ")

// config turns settings, and the file that fills in what no flag says, into the
// configuration of a box.
func (s *settings) config(role box.Role, file string, flags *pflag.FlagSet) (box.Config, error) {
	if file != "" {
		if err := s.merge(file, flags); err != nil {
			return box.Config{}, err
		}
	}
	cfg := box.Config{
		Role: role, Plain: s.Plain, OwnSource4: s.OwnSource4, Queue: s.Queue,
		Control: s.Control, Metrics: s.Metrics, Keepalive: s.Timeouts.Keepalive.Duration,
		Learnt: s.learnt(), Table: s.table(), Probe: s.Probe.config(), StateDir: s.StateDir,
		CongestionControl: s.Congestion, InitialWindow: int(s.Window),
	}
	var err error
	if cfg.Policy, err = s.policy(); err != nil {
		return box.Config{}, err
	}
	if cfg.Join, err = addrPorts(s.Join); err != nil {
		return box.Config{}, err
	}
	if cfg.Paths, err = s.paths(); err != nil {
		return box.Config{}, err
	}
	var known bool
	if cfg.FirstPathDown, known = box.FirstPathDownModes[s.FirstDown]; !known {
		return box.Config{}, usagef("first-path-down %q is none of pass, own-source", s.FirstDown)
	}
	if err := cfg.Validate(); err != nil {
		return box.Config{}, usageError{err}
	}
	return cfg, nil
}

// record has the box record its handshakes, if there is a folder for them.
func (s *settings) record(cfg *box.Config) {
	if s.Record == "" {
		return
	}
	rc := pcaps.RecorderConfig{
		Role: cfg.Role, Plain: cfg.Plain, Join: cfg.Join,
		Comment: fmt.Sprintf("synbond %s, action %s, %d rules", cfg.Role, cfg.Policy.Default, len(cfg.Policy.Rules)),
		Dir:     s.Record, Files: s.RecordFiles, FileSize: int64(s.RecordSize), Log: cfg.Log,
	}
	for _, p := range cfg.Paths {
		rc.Multipath = append(rc.Multipath, p.Interface)
	}
	cfg.Record = func() (box.Recorder, error) { return pcaps.OpenRecorder(rc) }
}

// table is how many flows a box keeps, and for how long.
func (s *settings) table() state.Config {
	return state.Config{
		MaxFlows: s.Limits.Flows, MaxHalfOpen: s.Limits.HalfOpen, MaxEnded: s.Limits.Ended,
		Dial: s.Timeouts.Dial.Duration, HalfOpen: s.Timeouts.HalfOpen.Duration,
	}
}

// learnt is what a box remembers of destinations.
func (s *settings) learnt() state.LearntConfig {
	return state.LearntConfig{
		Bits4: s.Learn.Prefix4, Bits6: s.Learn.Prefix6, TTL: s.Learn.TTL.Duration, Max: s.Learn.Max,
	}
}

func actionOf(name string) (state.Action, error) {
	for i, a := range state.Actions {
		if a == name {
			return state.Action(i), nil
		}
	}
	return 0, usagef("action %q is none of %s", name, strings.Join(state.Actions[:], ", "))
}

func addrPorts(texts []string) ([]netip.AddrPort, error) {
	out := make([]netip.AddrPort, len(texts))
	for i, t := range texts {
		var err error
		if out[i], err = netip.ParseAddrPort(t); err != nil {
			return nil, usagef("join address %q: write 203.0.113.1:9000 or [2001:db8::1]:9000", t)
		}
	}
	return out, nil
}

func logLevel(name string) (slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return 0, usagef("log level %q is none of debug, info, warn, error", name)
	}
	return l, nil
}
