//go:build linux

package cli

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/box"
	"github.com/synbond/synbond/internal/config"
	"github.com/synbond/synbond/internal/core"
)

// reloader reads the configuration of a running box again.
type reloader struct {
	from    *source
	role    core.Role
	running *config.Settings // with what has been applied since the box started
	level   *slog.LevelVar
	log     *slog.Logger
	changes chan box.Change
	reread  chan struct{} // asks a gateway to read its users' file again; nil for other boxes
}

// run reads the file again at each SIGHUP, until ctx ends. A file with a mistake changes
// nothing, and the log says why.
func (r *reloader) run(ctx context.Context) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, unix.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		if r.reread != nil {
			select {
			case r.reread <- struct{}{}:
			case <-ctx.Done():
				return
			}
			if r.from.file == "" {
				continue
			}
		}
		if err := r.reload(ctx); err != nil {
			r.log.Error("the settings stay as they are", "file", r.from.file, "err", oneLine(err))
		}
	}
}

// reload applies the keys that have changed in the file and may change while a box runs, and
// logs their names and those of the others.
func (r *reloader) reload(ctx context.Context) error {
	if r.from.file == "" {
		return errors.New("there is no configuration file to read")
	}
	next, _, err := r.from.load(r.role) // the whole is checked, also for the next start
	if err != nil {
		return err
	}
	now, err := r.running.Reload(next)
	if err != nil {
		return err
	}
	r.level.Set(now.Settings.LogLevel.Level)
	select {
	case r.changes <- box.Change{
		Policy: now.Policy, Table: now.Settings.Table(), Learnt: now.Settings.Learnt(), Keepalive: now.Settings.Timeouts.Keepalive.Duration,
		Allowances: now.Settings.Allowances(),
	}:
	case <-ctx.Done():
		return nil
	}
	r.running = now.Settings
	names := func(keys []string) string { return cmp.Or(strings.Join(keys, ", "), "nothing") }
	if len(now.Restart) > 0 {
		r.log.Warn("the settings have been read again; some need a restart", "file", r.from.file, "applied", names(now.Applied), "restart", names(now.Restart))
		return nil
	}
	r.log.Info("the settings have been read again", "file", r.from.file, "applied", names(now.Applied))
	return nil
}
