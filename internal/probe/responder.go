//go:build linux

package probe

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/encap"
	"github.com/synbond/synbond/internal/paths"
)

// EndSubflows ends the subflows of this machine that match, where their connections
// have others, and returns their number. Package mptcp has one for the kernel.
type EndSubflows func(match paths.SubflowMatch) (int, error)

// Responder replies to the probes of CPEs at a HAG's join addresses. When a CPE
// reports that a path is down, the responder ends the subflows on that path at this
// end: the kernel then sends at once by others what they had not delivered.
type Responder struct {
	conns    []*net.UDPConn
	secret   string
	encap    Encapsulator // nil for none
	end      EndSubflows
	log      *slog.Logger
	instance uint64
	key      [sha256.Size]byte // of cookies
	moreDown chan struct{}     // has room for one: a path was reported down

	mu    sync.Mutex
	peers peers
	// arrivals are the addresses at which a run of a CPE was heard first since
	// [Responder.Arrivals] was called; no more than maxPeers.
	arrivals map[netip.Addr]bool
}

// NewResponder opens UDP sockets at the join addresses and their ports.
func NewResponder(joins []netip.AddrPort, secret string, end EndSubflows, log *slog.Logger) (*Responder, error) {
	r := newResponder(secret, end, log)
	for _, j := range joins {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(j))
		if errors.Is(err, unix.EADDRINUSE) {
			err = fmt.Errorf("UDP port %d is in use (see `ss -uan sport = %d`): %w", j.Port(), j.Port(), err)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("answer probes at %s: %w", j, err), r.Close())
		}
		r.conns = append(r.conns, c)
		if err := prepare(c, j.Addr()); err != nil {
			return nil, errors.Join(fmt.Errorf("answer probes at %s: %w", j, err), r.Close())
		}
	}
	return r, nil
}

// prepare has replies sent whole, and the kernel tell by which interface probes come.
func prepare(c *net.UDPConn, join netip.Addr) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	err2 := raw.Control(func(fd uintptr) {
		enlarge(int(fd))
		err = errors.Join(dontFragment(int(fd), join), namesInterface(int(fd), join))
	})
	return errors.Join(err, err2)
}

func newResponder(secret string, end EndSubflows, log *slog.Logger) *Responder {
	r := &Responder{secret: secret, end: end, log: log, moreDown: make(chan struct{}, 1), peers: make(peers), arrivals: make(map[netip.Addr]bool)}
	var instance [8]byte
	rand.Read(instance[:])
	rand.Read(r.key[:])
	r.instance = binary.BigEndian.Uint64(instance[:])
	return r
}

// Close closes the sockets.
func (r *Responder) Close() (err error) {
	for _, c := range r.conns {
		err = errors.Join(err, c.Close())
	}
	return err
}

// Peers returns the CPEs that were heard of in the last minute.
func (r *Responder) Peers() []Peer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.peers.list()
}

// Arrivals returns the addresses at which a run of a CPE was first heard since the last
// call. What an earlier run had there may be dead.
func (r *Responder) Arrivals() map[netip.Addr]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.arrivals) == 0 {
		return nil
	}
	out := r.arrivals
	r.arrivals = make(map[netip.Addr]bool)
	return out
}

// Run replies until ctx ends.
func (r *Responder) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for i, c := range r.conns {
		g.Go(func() error { return r.serve(ctx, i, c) })
	}
	r.endFailed(ctx)
	return g.Wait()
}

// serve replies to the probes that come to one join address, and hands on the datagrams of
// encapsulated subflows.
func (r *Responder) serve(ctx context.Context, socket int, c *net.UDPConn) error {
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	w := r.newReplier()
	w.socket = socket
	var control [64]byte
	var in, out [maxMessageSize + 1]byte // one byte more than a message, to notice longer ones
	for {
		n, m, _, from, err := c.ReadMsgUDPAddrPort(in[:], control[:])
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("answer probes: %w", err)
		}
		source := netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if r.encap != nil && encap.Is(in[:n]) {
			r.encap.Take(in[:n], source, socket)
			continue
		}
		w.index = cameBy(control[:m])
		if reply := w.reply(out[:0], in[:n], source, time.Now()); len(reply) > 0 {
			// A reply that cannot be sent counts as lost.
			_, _ = c.WriteToUDPAddrPort(reply, from)
		}
	}
}

// replier writes replies. Each goroutine has its own.
type replier struct {
	*Responder
	socket  int // its index
	index   int // of the interface by which the present probe came in
	codec   *codec
	cookies hash.Hash
}

func (r *Responder) newReplier() *replier {
	return &replier{Responder: r, codec: newCodec(r.secret), cookies: hmac.New(sha256.New, r.key[:])}
}

// reply appends the reply to a datagram to b. Only probes get one, so that two HAGs
// cannot keep each other busy.
func (r *replier) reply(b, datagram []byte, source netip.AddrPort, now time.Time) []byte {
	from := source.Addr()
	m, err := r.codec.parse(datagram)
	if errors.Is(err, errNoMessage) || m.kind != kindProbe {
		return b
	}
	out := message{version: messageVersion, box: m.box, sequence: m.sequence, instance: r.instance}
	switch {
	case errors.Is(err, errOtherVersion):
		out.kind, out.reason = kindRefusal, otherVersion
	case err != nil:
		out.kind, out.reason = kindRefusal, otherSecret
	default:
		confirmed, fresh := r.note(m, source, now)
		if !fresh {
			return b
		}
		out.kind, out.path, out.revision, out.down = kindReply, m.path, m.revision, m.down
		out.cookie = r.cookie(m, from)
		if confirmed {
			out.flags = flagConfirmed
		}
		if m.instance&abilityItems != 0 {
			out.flags |= flagItems
		}
		if m.size > 0 {
			out.size, out.seen, out.lives[0] = m.size, source, r.instance
			if confirmed && m.encap {
				out.encap, out.grant = true, r.grant(now, m, source)
			}
		}
	}
	return r.codec.append(b, out)
}

// note takes the contents of a probe. It reports whether the probe confirms its
// sender's address, and whether it is fresh, not one that was heard before.
func (r *replier) note(m message, source netip.AddrPort, now time.Time) (confirmed, fresh bool) {
	from := source.Addr()
	confirmed = m.cookie == r.cookie(m, from)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.peers.stale(m, from) {
		return confirmed, false
	}
	if !confirmed {
		return false, true
	}
	moreDown, arrived := r.peers.confirm(now, m, from)
	r.peers.note(m, from, r.index, r.heard(now, m, source))
	if arrived && len(r.arrivals) < maxPeers {
		r.arrivals[from] = true
	}
	if moreDown {
		r.log.Debug("a CPE has lost a path", "from", from, "down", fmt.Sprintf("%08b", m.down))
		select {
		case r.moreDown <- struct{}{}:
		default:
		}
	}
	return confirmed, true
}

// cookie returns a number that only the receiver of replies at that address can
// know. The HAG remembers nothing of those who do not return it.
func (r *replier) cookie(m message, from netip.Addr) uint64 {
	var b [8 + 1 + 16]byte
	binary.BigEndian.PutUint64(b[:], m.box)
	b[8] = m.path
	ip := from.As16()
	copy(b[9:], ip[:])
	r.cookies.Reset()
	r.cookies.Write(b[:])
	var sum [sha256.Size]byte
	return binary.BigEndian.Uint64(r.cookies.Sum(sum[:0]))
}

// endFailed ends the subflows of paths that are down, as they are reported, until
// ctx ends.
func (r *Responder) endFailed(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.moreDown:
		case <-timer.C:
		}
		now := time.Now()
		r.mu.Lock()
		r.peers.expire(now)
		f, next := r.peers.due(now)
		r.mu.Unlock()
		timer.Reset(time.Until(next))
		if len(f.down)+len(f.others) == 0 {
			continue
		}
		n, err := r.end(f.matches)
		if err != nil {
			r.log.Warn("end subflows of a path that is down", "err", err)
			continue
		}
		r.log.Debug("subflows of paths that are down have ended", "subflows", n)
	}
}
