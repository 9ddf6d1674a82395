//go:build linux

package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/box"
	"github.com/synbond/synbond/internal/config"
	"github.com/synbond/synbond/internal/core"
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
	if role == box.HAG {
		cmd.Use = "hag --plain IF… --path IF… --join ADDR:PORT…"
		cmd.Short = "run the box in the operator's network"
		cmd.Example = "  synbond hag --plain wan0 --path dsl0 --path lte0 --join 203.0.113.1:9000"
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
	stderr := cmd.ErrOrStderr()
	cfg.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: settings.LogLevel.Level}))
	record(settings, &cfg)
	cfg.Policies = s.reload(cmd.Context(), role, settings, cfg.Log)
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

// reload reads the policy anew at each SIGHUP, until ctx ends. A file with a
// mistake keeps the policy, and the log says why.
func (s *source) reload(ctx context.Context, role box.Role, running *config.Settings, log *slog.Logger) <-chan *core.Policy {
	policies := make(chan *core.Policy)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, unix.SIGHUP)
	go func() {
		defer signal.Stop(hangups)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
			}
			p, err := s.newPolicy(role, running)
			if err != nil {
				log.Error("the policy stays as it is", "file", s.file, "err", oneLine(err))
				continue
			}
			select {
			case policies <- p:
			case <-ctx.Done():
				return
			}
		}
	}()
	return policies
}

// newPolicy reads the policy anew for a box that runs. Rules refer to the paths of
// the running box.
func (s *source) newPolicy(role box.Role, running *config.Settings) (*core.Policy, error) {
	if s.file == "" {
		return nil, errors.New("there is no configuration file to read")
	}
	next, err := config.Load(role, s.file, s.flags)
	if err != nil {
		return nil, err
	}
	return next.PolicyFor(running)
}
