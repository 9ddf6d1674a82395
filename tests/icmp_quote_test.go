//go:build linux

package tests

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/rewrite"
)

// quote is the part of a TCP segment that an ICMP error quotes.
type quote struct {
	from, to netip.AddrPort
	seq      uint32
}

// quotes collects the ICMP errors "destination unreachable" that reach a host.
type quotes struct {
	mu   sync.Mutex
	seen []quote
}

func (q *quotes) all() []quote {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.seen)
}

// hear starts to collect on a host, for both families.
func hear(t *testing.T, h *netlab.Host) *quotes {
	t.Helper()
	q := &quotes{}
	for _, at := range []struct {
		network, addr string
		kind          byte
		parse         func([]byte) (quote, bool)
	}{
		{"ip6:ipv6-icmp", "::", 1, quoted6},
		{"ip4:icmp", "0.0.0.0", 3, quoted4},
	} {
		var c net.PacketConn
		err := h.Do(func() (err error) {
			c, err = net.ListenPacket(at.network, at.addr)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		t.Cleanup(func() {
			c.Close()
			<-done
		})
		go func() {
			defer close(done)
			q.collect(c, at.kind, at.parse)
		}()
	}
	return q
}

// collect adds the errors of one kind that a socket receives, until it is closed.
func (q *quotes) collect(c net.PacketConn, kind byte, parse func([]byte) (quote, bool)) {
	const header = 8 // of the ICMP error
	buf := make([]byte, 2048)
	for {
		n, _, err := c.ReadFrom(buf)
		if err != nil {
			return // closed
		}
		if n < header || buf[0] != kind {
			continue
		}
		if about, ok := parse(buf[header:n]); ok {
			q.mu.Lock()
			q.seen = append(q.seen, about)
			q.mu.Unlock()
		}
	}
}

func quoted6(ip []byte) (quote, bool) {
	if len(ip) < 48 || ip[6] != unix.IPPROTO_TCP {
		return quote{}, false
	}
	return quoted(netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40])), ip[40:]), true
}

func quoted4(ip []byte) (quote, bool) {
	if len(ip) < 28 || ip[9] != unix.IPPROTO_TCP || len(ip) < int(ip[0]&15)*4+8 {
		return quote{}, false
	}
	return quoted(netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20])), ip[ip[0]&15*4:]), true
}

func quoted(from, to netip.Addr, tcp []byte) quote {
	return quote{
		from: netip.AddrPortFrom(from, binary.BigEndian.Uint16(tcp[sourcePort:])),
		to:   netip.AddrPortFrom(to, binary.BigEndian.Uint16(tcp[destPort:])),
		seq:  binary.BigEndian.Uint32(tcp[4:]),
	}
}

// TestErrorsQuoteTheClientsOwnSYN checks all ICMP errors that reach the client. A SYN
// that a box sent in the client's name has another sequence number.
func TestErrorsQuoteTheClientsOwnSYN(t *testing.T) {
	for _, s := range setups {
		t.Run(s.name, func(t *testing.T) {
			n := netlabtest.Build(t, twoLines)
			targets := obstruct(t, n)
			firewalls(t, n)
			s.start(t, n)
			atClient, err := netlab.OpenTap(n.Client, netlab.ClientInterface)
			if err != nil {
				t.Fatal(err)
			}
			defer atClient.Close()
			errs := hear(t, n.Client)
			got := outcomes(t, n.Client, targets, shortTime)
			sent := make(map[quote]bool)
			for _, h := range atClient.Handshakes() {
				var seg rewrite.Segment
				if err := seg.Parse(h.Packet); err != nil {
					t.Fatal(err)
				}
				if h.Outgoing {
					sent[quote{seg.Src, seg.Dst, seg.Seq}] = true
				}
			}
			about := make(map[netip.AddrPort]int)
			for _, q := range errs.all() {
				if !sent[q] {
					t.Errorf("an error quotes %s to %s, sequence number %d, which the client has not sent", q.from, q.to, q.seq)
				}
				about[q.to]++
			}
			for i, tt := range targets {
				switch got[i] {
				case nothing, "ECONNREFUSED": // no error, or a reset
				default:
					if about[tt.to] == 0 {
						t.Errorf("%s: %s, and no ICMP error", tt.name, got[i])
					}
				}
			}
		})
	}
}
