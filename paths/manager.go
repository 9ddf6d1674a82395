package paths

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Manager opens the subflows of a CPE's connections.
type Manager struct {
	set    *Set
	log    *slog.Logger
	pm     *PM
	events *Events
	ready  chan join

	mu    sync.Mutex
	conns map[uint32]conn // by token

	opened, failed, skipped atomic.Uint64
}

// conn is what is known of one connection.
type conn struct {
	remote      netip.AddrPort // of its first subflow
	elsewhere   bool           // the peer takes no joins there
	tracked     bool           // the box relays it
	established bool           // the kernel lets it have subflows
	tries       [MaxPaths]uint8
}

// MaxPaths is how many paths a box may have: a connection's subflows are as many
// at most (kernel: MPTCP_PM_ADDR_MAX).
const MaxPaths = 8

// join is a connection that is ready for its further subflows.
type join struct {
	token  uint32
	remote netip.AddrPort
	// elsewhere says to use the HAG's join address and not remote.
	elsewhere bool
}

// NewManager prepares a manager of the paths in set.
func NewManager(set *Set, log *slog.Logger) (*Manager, error) {
	m := &Manager{set: set, log: log, ready: make(chan join, 4096), conns: make(map[uint32]conn)}
	var err error
	if m.pm, err = Open(); err != nil {
		return nil, err
	}
	if m.events, err = Listen(); err != nil {
		return nil, errors.Join(err, m.pm.Close())
	}
	return m, nil
}

// Close ends the manager's connections to the kernel.
func (m *Manager) Close() error { return errors.Join(m.pm.Close(), m.events.Close()) }

// Run opens subflows until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.events.Run(ctx, m.handle) })
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case j := <-m.ready:
				m.join(j)
			}
		}
	})
	return g.Wait()
}

// Track says that the box relays the connection with that token.
func (m *Manager) Track(token uint32) {
	m.update(token, func(c *conn) { c.tracked = true })
}

// Forget ends what Track began.
func (m *Manager) Forget(token uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.conns, token)
}

func (m *Manager) handle(ev Event) {
	switch ev.Type {
	case Established:
		m.update(ev.Token, func(c *conn) {
			c.established, c.remote, c.elsewhere = true, ev.Remote, ev.Elsewhere
		})
	case ConnClosed:
		m.Forget(ev.Token)
	case SubClosed:
		if i := pathOf(ev.LocalID); ev.Error != 0 && i >= 0 && i < len(m.set.Paths) {
			m.log.Debug("subflow closed", "token", ev.Token, "path", m.set.Paths[i].Name, "err", unix.Errno(ev.Error))
			m.again(ev.Token, i)
		}
	}
}

// A subflow that could not be opened, or was reset, is tried again a few times,
// later each time. It may be too early: a connection that is established refuses
// subflows for a moment (ENOTCONN), and a HAG announces one address after the
// other and refuses joins to those whose turn has not come.
const (
	attempts = 6
	pause    = 25 * time.Millisecond
)

// again schedules another attempt to open the subflow of path i.
func (m *Manager) again(token uint32, i int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, known := m.conns[token]
	if !known || !c.tracked {
		return
	}
	if c.tries[i]++; c.tries[i] >= attempts {
		m.failed.Add(1)
		return
	}
	m.conns[token] = c
	// Kernels that do not tell the C flag leave it to the first attempt to find out.
	elsewhere := c.elsewhere || len(m.set.Paths[i].Join) > 0
	time.AfterFunc(pause<<c.tries[i], func() { m.attempt(join{token, c.remote, elsewhere}, i) })
}

// update changes what is known of a connection. When that makes it ready, it is
// handed on to be joined; should too many wait already, it stays on one path.
func (m *Manager) update(token uint32, change func(*conn)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.conns[token]
	change(&c)
	m.conns[token] = c
	if !c.tracked || !c.established {
		return
	}
	select {
	case m.ready <- join{token, c.remote, c.elsewhere}:
	default:
		m.skipped.Add(1)
	}
}

// join opens a subflow on every path but the one that the first subflow uses.
func (m *Manager) join(j join) {
	first := max(m.set.towards(j.remote.Addr()), 0)
	for i := range m.set.Paths {
		if i != first {
			m.attempt(j, i)
		}
	}
}

// attempt opens the subflow of path i.
func (m *Manager) attempt(j join, i int) {
	switch err := m.open(j, i, m.set.Paths[i]); {
	case err == nil:
		m.opened.Add(1)
	case errors.Is(err, unix.ENOTCONN):
		m.again(j.token, i)
	case !m.knows(j.token): // the connection has ended (the kernel says EINVAL)
	default:
		m.failed.Add(1)
		m.log.Debug("join", "path", m.set.Paths[i].Name, "token", j.token, "err", err)
	}
}

// knows tells whether the connection is still there.
func (m *Manager) knows(token uint32) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, known := m.conns[token]
	return known
}

// errNoAddress means that a path has no address, or no join address, of a family in common.
var errNoAddress = errors.New("no usable address")

// open opens the subflow of path i: to the server itself if it takes joins
// there, else to a join address of the path. There an IPv6 connection may use an
// IPv4 path (kernel: mptcp_pm_addr_families_match), never the other way round.
func (m *Manager) open(j join, i int, p Path) error {
	at := m.set.links.get(p.Interface)
	is4 := j.remote.Addr().Is4()
	local, remote := at.addr(is4), j.remote
	if j.elsewhere || !local.IsValid() {
		remote = pick(p.Join, is4)
	}
	if !is4 && (!local.IsValid() || !remote.IsValid()) {
		local, remote = at.addr(true), pick(p.Join, true)
	}
	if !local.IsValid() || !remote.IsValid() {
		return errNoAddress
	}
	from := Address{AddrPort: netip.AddrPortFrom(local, 0), ID: localID(i, local), Interface: at.index}
	if p.Backup {
		from.Flags |= flagBackup
	}
	return m.pm.CreateSubflow(j.token, from, Address{AddrPort: remote})
}

// localID is the address ID of path i: the peer knows the address by it (0 is
// the address of the first subflow).
func localID(i int, a netip.Addr) uint8 {
	id := uint8(2*i + 1)
	if a.Is4() {
		id++
	}
	return id
}

// pathOf returns the path whose address has that ID, or -1.
func pathOf(id uint8) int {
	if id == 0 || id > 2*MaxPaths {
		return -1
	}
	return int(id-1) / 2
}

// Counters of a manager.
type Counters struct {
	Opened  uint64 `json:"opened"`
	Failed  uint64 `json:"failed"`
	Skipped uint64 `json:"skipped"` // too many connections waited to be joined
}

// Counters returns what became of the subflows that the manager meant to open.
func (m *Manager) Counters() Counters {
	return Counters{m.opened.Load(), m.failed.Load(), m.skipped.Load()}
}
