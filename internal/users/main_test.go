package users

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

var (
	home   = netip.MustParseAddr("192.0.2.7")
	office = netip.MustParseAddr("198.51.100.7")
)

// clock is a clock that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Duration
}

func (c *clock) Now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += d
}

// file writes a users' file.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// line is a line of the users' file, with a hash of that cost.
func line(t *testing.T, name, password string, cost int) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return name + ":" + string(hash) + "\n"
}

// rig is a set of users with a clock, whose hashes are counted.
type rig struct {
	*Users
	clock *clock
	t     *testing.T

	mu     sync.Mutex
	hashes map[int]int // number of hashes of each cost
}

// newRig opens the users of a text.
func newRig(t *testing.T, cfg Config, text string) *rig {
	t.Helper()
	r := &rig{clock: new(clock), t: t, hashes: make(map[int]int)}
	cfg.File, cfg.Now = file(t, text), r.clock.Now
	u, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	u.same = func(hash, password []byte) error {
		r.mu.Lock()
		r.hashes[costOf(hash)]++
		r.mu.Unlock()
		return bcrypt.CompareHashAndPassword(hash, password)
	}
	r.Users = u
	return r
}

// run runs the workers until the end of the test.
func (r *rig) run() {
	ctx, stop := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { r.Users.Run(ctx) })
	r.t.Cleanup(func() { stop(); ended.Wait() })
}

// begin begins a check. The channel gets its outcome.
func (r *rig) begin(source netip.Addr, name, password string) chan Outcome {
	outcome := make(chan Outcome, 2)
	if o := r.Verify(source, name, []byte(password), func(o Outcome) { outcome <- o }); o != Pending {
		outcome <- o
	}
	return outcome
}

// check begins a check, and awaits its outcome.
func (r *rig) check(source netip.Addr, name, password string) Outcome {
	return <-r.begin(source, name, password)
}

// expect checks a password.
func (r *rig) expect(source netip.Addr, name, password string, want Outcome) {
	r.t.Helper()
	if got := r.check(source, name, password); got != want {
		r.t.Errorf("%v, %s: %v, want %v", source, name, got, want)
	}
}

// work returns the number of rounds since the last call.
func (r *rig) work() (rounds int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for cost, n := range r.hashes {
		rounds += n << cost
	}
	clear(r.hashes)
	return rounds
}

// rewrite changes the users' file, and reads it again.
func (r *rig) rewrite(text string) error {
	if err := os.WriteFile(r.cfg.File, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return r.Reload()
}

// wiped reports whether all bytes are 0.
func wiped(b []byte) bool { return bytes.Equal(b, make([]byte, len(b))) }

// sources returns n addresses, each of another prefix.
func sources(n int) (all []netip.Addr) {
	for i := range n {
		all = append(all, netip.MustParseAddr(fmt.Sprintf("2001:db8:%x:100::1", i)))
	}
	return all
}
