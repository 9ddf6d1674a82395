//go:build linux

package cli

import (
	"fmt"
	"log/slog"
	"os/signal"
	"runtime"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/box"
	"github.com/synbond/synbond/internal/config"
	"github.com/synbond/synbond/pcaps"
)

// boxCommand runs a box of that role.
func boxCommand(role box.Role) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "cpe --plain IF… --path IF[,join=ADDR:PORT][,mode=M]…",
		Short:   "run the box at the customer's edge",
		Example: "  synbond cpe --plain lan0 --path ppp0,name=dsl --path wwan0,name=lte,join=203.0.113.1:9000",
		Args:    noArguments,
	}
	switch role {
	case box.HAG:
		cmd.Use = "hag --plain IF… --path IF… --join ADDR:PORT…"
		cmd.Short = "run the box in the operator's network"
		cmd.Example = "  synbond hag --plain wan0 --path dsl0 --path lte0 --join 203.0.113.1:9000"
	case box.Gateway:
		cmd.Use = "gateway --socks ADDR:PORT… [--join ADDR:PORT…] [--users FILE] [--admit PREFIX…] [--open]"
		cmd.Short = "run a SOCKS gateway for hosts with MPTCP, such as smartphones"
		cmd.Example = "  synbond passwd alice >> /etc/synbond/users\n" +
			"  synbond gateway --socks 203.0.113.1:1080 --socks [2001:db8::1]:1080 --users /etc/synbond/users"
	}
	from := bindBox(cmd, role)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return from.run(cmd, role) }
	return cmd
}

// source is the origin of a box's settings: a file and flags.
type source struct {
	file  string
	flags *config.Flags
}

// bindBox declares the flags of a box.
func bindBox(cmd *cobra.Command, role box.Role) *source {
	s := &source{flags: config.NewFlags(cmd.Flags(), role)}
	bindFile(cmd.Flags(), &s.file)
	completeKeys(cmd, s.flags)
	return s
}

// load reads the settings, and turns them into the configuration of a box.
func (s *source) load(role box.Role) (*config.Settings, box.Config, error) {
	settings, err := config.Load(role, s.file, s.flags)
	if err != nil {
		return nil, box.Config{}, err
	}
	cfg, err := settings.Box(role)
	if err != nil {
		return nil, box.Config{}, err
	}
	if err := cfg.Validate(); err != nil {
		return nil, box.Config{}, usageError{err}
	}
	return settings, cfg, nil
}

// run runs a box until its command ends.
func (s *source) run(cmd *cobra.Command, role box.Role) error {
	settings, cfg, err := s.load(role)
	if err != nil {
		return err
	}
	signal.Ignore(unix.SIGPIPE) // whoever reads the log may end first: the box has things to restore
	stderr := cmd.ErrOrStderr()
	level := new(slog.LevelVar)
	level.Set(settings.LogLevel.Level)
	cfg.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	record(settings, &cfg)
	r := reloader{from: s, role: role, running: settings, level: level, log: cfg.Log, changes: make(chan box.Change)}
	cfg.Changes = r.changes
	if cfg.Gateway.Serves() {
		r.reread = make(chan struct{})
		cfg.Reread = r.reread
	}
	go r.run(cmd.Context())
	// The relay's loops keep a processor each, see package relay.
	runtime.GOMAXPROCS(2 * runtime.NumCPU())
	return box.Run(cmd.Context(), cfg, stderr)
}

// record has the box record its handshakes, if there is a folder for them.
func record(s *config.Settings, cfg *box.Config) {
	if s.Record == "" {
		return
	}
	rc := pcaps.RecorderConfig{
		Role: cfg.Role, Plain: cfg.Plain, Join: cfg.Join,
		Comment: fmt.Sprintf("synbond %s, action %s, %d rules", cfg.Role, cfg.Policy.Default, len(cfg.Policy.Rules)),
		Dir:     s.Record, Files: s.RecordFiles, FileSize: int64(s.RecordFileSize), Log: cfg.Log,
	}
	for _, p := range cfg.Paths {
		rc.Multipath = append(rc.Multipath, p.Interface)
	}
	cfg.Record = func() (box.Recorder, error) { return pcaps.OpenRecorder(rc) }
}
