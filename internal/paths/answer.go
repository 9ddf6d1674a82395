package paths

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
)

// Answerer answers the probes of CPEs at a HAG's join addresses. When one of
// them reports that a path is down, it ends the subflows on that path at this
// end: the kernel then sends at once by the others what they had not delivered.
type Answerer struct {
	conns    []*net.UDPConn
	secret   string
	log      *slog.Logger
	instance uint64
	key      [sha256.Size]byte // of cookies
	fallen   chan struct{}

	mu    sync.Mutex
	peers peers
}

// NewAnswerer opens the join addresses for probes: UDP, by the port of the joins.
func NewAnswerer(joins []netip.AddrPort, secret string, log *slog.Logger) (*Answerer, error) {
	a := &Answerer{secret: secret, log: log, fallen: make(chan struct{}, 1), peers: make(peers)}
	var instance [8]byte
	rand.Read(instance[:])
	rand.Read(a.key[:])
	a.instance = binary.BigEndian.Uint64(instance[:])
	for _, j := range joins {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(j))
		if errors.Is(err, unix.EADDRINUSE) {
			err = fmt.Errorf("UDP port %d is in use (see `ss -uan sport = %d`): %w", j.Port(), j.Port(), err)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("answer probes at %s: %w", j, err), a.Close())
		}
		a.conns = append(a.conns, c)
	}
	return a, nil
}

// Close closes the join addresses to probes.
func (a *Answerer) Close() (err error) {
	for _, c := range a.conns {
		err = errors.Join(err, c.Close())
	}
	return err
}

// Peers returns the boxes that are heard of.
func (a *Answerer) Peers() []Peer {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.peers.list()
}

// Run answers until ctx ends.
func (a *Answerer) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range a.conns {
		g.Go(func() error { return a.serve(ctx, c) })
	}
	a.search(ctx)
	return g.Wait()
}

// serve answers the probes that come to one join address.
func (a *Answerer) serve(ctx context.Context, c *net.UDPConn) error {
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	r := replier{a, newSealer(a.secret), hmac.New(sha256.New, a.key[:])}
	var in, out [messageSize + 1]byte // one more, to notice what is longer
	for {
		n, from, err := c.ReadFromUDPAddrPort(in[:])
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("answer probes: %w", err)
		}
		if reply := r.reply(out[:0], in[:n], from.Addr().Unmap()); len(reply) > 0 {
			// An answer that cannot be sent is one that was lost.
			_, _ = c.WriteToUDPAddrPort(reply, from)
		}
	}
}

// replier is what one goroutine needs to answer.
type replier struct {
	*Answerer
	seal    *sealer
	cookies hash.Hash
}

// reply adds the reply to a datagram to b, or nothing where there is none: only
// probes get one, so that two HAGs cannot keep each other busy.
func (r *replier) reply(b, datagram []byte, from netip.Addr) []byte {
	m, err := r.seal.open(datagram)
	if errors.Is(err, errNoMessage) || m.kind != probe {
		return b
	}
	out := message{version: messageVersion, box: m.box, sequence: m.sequence, instance: r.instance}
	switch {
	case errors.Is(err, errOtherVersion):
		out.kind, out.reason = refusal, otherVersion
	case err != nil:
		out.kind, out.reason = refusal, otherSecret
	default:
		known, fresh := r.note(m, from)
		if !fresh {
			return b
		}
		out.kind, out.path, out.revision, out.down = answer, m.path, m.revision, m.down
		out.cookie = r.cookie(m, from)
		if known {
			out.flags = flagKnown
		}
	}
	return r.seal.append(b, out)
}

// note takes what a probe says: known if its sender's address is confirmed by
// it, not fresh if it has been heard before.
func (r *replier) note(m message, from netip.Addr) (known, fresh bool) {
	known = m.cookie == r.cookie(m, from)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.peers.stale(m, from) {
		return known, false
	}
	if known && r.peers.confirm(time.Now(), m, from) {
		r.log.Debug("a CPE has lost a path", "from", from, "down", fmt.Sprintf("%08b", m.down))
		select {
		case r.fallen <- struct{}{}:
		default:
		}
	}
	return known, true
}

// cookie is what only someone who gets the answers to that address can know.
// Nothing has to be remembered of those who do not send it back.
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

// search ends the subflows of paths that are down, as they are reported, until
// ctx ends.
func (a *Answerer) search(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.fallen:
		case <-timer.C:
		}
		now := time.Now()
		a.mu.Lock()
		a.peers.expire(now)
		f, next := a.peers.due(now)
		a.mu.Unlock()
		timer.Reset(time.Until(next))
		if len(f.down)+len(f.beside) == 0 {
			continue
		}
		n, err := destroySubflows(f.doomed)
		if err != nil {
			a.log.Warn("end subflows of a path that is down", "err", err)
			continue
		}
		a.log.Debug("subflows of paths that are down have ended", "subflows", n)
	}
}
