//go:build linux

package box

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/relay"
	"github.com/synbond/synbond/state"
)

// userUsageFile has the usage of users' quotas, in the folder for the box's state.
const userUsageFile = "quota-users.json"

// accounts are those of a gateway's users.
type accounts struct {
	usage *paths.Usage
	rest  *rest // of the task that reads them

	mu      sync.Mutex
	decider *paths.Accounts
	kernel  map[string]*relay.Account // of all users who have been connected, "" for clients without
	moving  map[string]bool           // who have carried bytes since the reading before the last
}

func newAccounts(all paths.Allowances, usage *paths.Usage) *accounts {
	return &accounts{
		usage: usage, rest: newRest(), decider: paths.NewAccounts(all, usage),
		kernel: make(map[string]*relay.Account), moving: make(map[string]bool),
	}
}

// openUserUsage opens the usage of users' quotas. It touches no file if there are none.
func (c *Config) openUserUsage() (*paths.Usage, error) {
	if c.Gateway.Allowances.HaveQuotas() {
		if err := os.MkdirAll(c.StateDir, 0o755); err != nil {
			return nil, fmt.Errorf("folder for quotas: %w; choose another with --state-dir", err)
		}
	}
	return paths.OpenUsage(filepath.Join(c.StateDir, userUsageFile), host.Released, c.Log), nil
}

// open returns the account for a connection of a user.
func (a *accounts) open(user string) *relay.Account {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.moving[user] = true // a reading is due
	a.rest.end()
	return a.account(user)
}

// account returns the account of a user. The caller holds the lock.
func (a *accounts) account(user string) *relay.Account {
	k := a.kernel[user]
	if k == nil {
		k = new(relay.Account)
		k.SetRate(a.decider.Of(user).Rate / 8)
		a.kernel[user] = k
	}
	return k
}

// allow replaces the allowances.
func (a *accounts) allow(all paths.Allowances) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.decider.Allowances = all
	for user, k := range a.kernel {
		k.SetRate(all.Of(user).Rate / 8)
	}
}

// spent reports whether a user has used up the quota.
func (a *accounts) spent(user string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	spent := a.decider.Spent(time.Now(), user)
	if spent {
		a.account(user) // to be shown, though the bytes may be of an earlier run
	}
	return spent
}

// moved returns the bytes that a user has carried.
func (a *accounts) moved(user string) (up, down uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if k := a.kernel[user]; k != nil {
		return k.Up.Moved(), k.Down.Moved()
	}
	return 0, 0
}

// move reports whether a user has carried bytes lately.
func (a *accounts) move() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.moving) > 0
}

// read takes what users have carried, and returns those who go on although their quota is
// used up.
func (a *accounts) read(elapsed time.Duration, now time.Time) (over map[string]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for user, k := range a.kernel {
		if !a.decider.Read(elapsed, now, user, k.Up.Moved(), k.Down.Moved()) {
			delete(a.moving, user)
			continue
		}
		a.moving[user] = true
		if a.decider.Spent(now, user) {
			if over == nil {
				over = make(map[string]bool)
			}
			over[user] = true
		}
	}
	return over
}

// describe returns what users may carry, and their rates.
func (a *accounts) describe(now time.Time) map[string]api.UserTotals {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make(map[string]api.UserTotals)
	for user := range a.kernel {
		of, rate := a.decider.Of(user), a.decider.Rate(user)
		t := api.UserTotals{RateUp: rate.Up, RateDown: rate.Down, RateLimit: of.Rate}
		if q := of.Quota; q.Bytes > 0 {
			a.decider.Spent(now, user) // a new period may have begun
			t.Quota = &api.Quota{Limit: q.Bytes, Used: a.decider.Used(user), Until: q.End(now)}
		}
		all[user] = t
	}
	return all
}

// countUsers reads what users carry again and again, until ctx ends.
func (b *Box) countUsers(ctx context.Context) error {
	a := b.gateway.accounts
	tick := time.NewTicker(steerEvery)
	defer tick.Stop()
	busy := func() bool { return a.move() || b.conns.some() }
	for saved := b.now(); ; {
		b.endSpent(a.read(b.now(), time.Now()))
		if b.now()-saved >= saveEvery || !busy() {
			saved = b.now()
			if err := a.usage.Save(); err != nil {
				b.cfg.Log.Warn("quotas", "err", err)
			}
		}
		a.rest.until(ctx, busy)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// endSpent ends the flows of users whose quota is used up.
func (b *Box) endSpent(over map[string]bool) {
	if len(over) == 0 {
		return
	}
	for _, id := range b.conns.live(nil) {
		f, _ := b.core.ByID(id)
		c, _, live := b.conns.carried(id)
		if live && f.Asked != nil && f.State == state.Relaying && over[f.Asked.User] {
			b.kernel.relay.Reset(c.(*relay.Conn), ending(state.UserQuota))
		}
	}
}

// validateAllowances reports what is wrong with the rates and quotas of users.
func (g *GatewayConfig) validateAllowances() error {
	if len(g.Allowances) > 0 && g.Users == "" {
		return errors.New("rates and quotas are for users: name a file with users by --users")
	}
	return g.Allowances.Validate()
}

// isSpent reports whether a user has used up the quota.
func (b *Box) isSpent(user string) bool { return b.gateway != nil && b.gateway.accounts.spent(user) }
