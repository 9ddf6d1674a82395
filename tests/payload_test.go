//go:build linux

package tests

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/tooltest"
	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/rewrite"
)

// Words that an application layer gateway exchanges: an address of its hosts.
const (
	inside  = "PORT 192,0,2,1,4,1"
	outside = "PORT 203,0,113,9,1"
)

// alter makes a router exchange a word in all payloads, with the right TCP checksum.
func alter(t *testing.T, h *netlab.Host) {
	t.Helper()
	var q *nfq.Queue
	err := h.Do(func() (err error) {
		q, err = nfq.Open(nfq.QueueConfig{Number: 77, MaxLength: 10_000})
		return err
	})
	if err == nil {
		err = q.Start(t.Context(), func(p nfq.Packet) {
			exchange(p.Payload)
			q.Replace(p.ID, p.Payload) //nolint:errcheck // ends with the queue
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	for _, tables := range []string{"iptables", "ip6tables"} {
		admin(t, h, tables+" -t mangle -A FORWARD -p tcp -j NFQUEUE --queue-num 77")
	}
}

// exchange exchanges the word in a packet and updates its checksum (RFC 1624).
func exchange(packet []byte) {
	var s rewrite.Segment
	if s.Parse(packet) != nil {
		return
	}
	at := bytes.Index(s.Payload, []byte(inside))
	if at < 0 {
		return
	}
	const header, checksum = 20, 16
	at += header + len(s.Options)
	tcp := packet[len(packet)-header-len(s.Options)-len(s.Payload):]
	sum := uint32(^binary.BigEndian.Uint16(tcp[checksum:]))
	for i := range outside {
		was, now := uint32(tcp[at+i]), uint32(outside[i])
		if (at+i)%2 == 0 {
			was, now = was<<8, now<<8
		}
		sum += ^was&0xffff + now
		tcp[at+i] = outside[i]
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(tcp[checksum:], ^uint16(sum))
}

// TestBytesThatALineChangesArriveAsWithoutABox has gateways on both lines, on machines where
// MPTCP's checksums are switched on. With them the kernel would take a change for damage,
// and after the fallback deliver bytes twice.
func TestBytesThatALineChangesArriveAsWithoutABox(t *testing.T) {
	t.Parallel()
	tooltest.Need(t, "gateways that change bytes", "iptables", "ip6tables", "sh", "sysctl")
	n := netlabtest.Build(t, twoLines)
	for _, h := range []*netlab.Host{n.CPE, n.HAG} {
		admin(t, h, "sysctl -qw net.mptcp.checksum_enabled=1")
	}
	p := start(t, n)
	for _, name := range []string{"dsl", "lte"} {
		sees(t, p.cpe, name, "is up", isUp)
		if err := p.Line(name).SetRate(20e6); err != nil { // then it carries single segments
			t.Fatal(err)
		}
		alter(t, p.Line(name).Router())
	}
	for _, f := range families {
		for name, size := range map[string]int{"short": 1000, "long": 3 << 20} {
			sent := bytes.Repeat([]byte("."), size)
			for i := 100; i+len(inside) < len(sent); i += 50_000 {
				copy(sent[i:], inside)
			}
			l := listenAt(t, p.Server, f.server)
			serve(l, func(c net.Conn) { c.Write(sent) }) //nolint:errcheck // the client will notice
			got, err := io.ReadAll(dial(t, p.Client, addrOf(l)))
			// A word may be in two segments, and then remains.
			words, kept := bytes.Count(got, []byte(outside)), bytes.Count(got, []byte(inside))
			back := bytes.ReplaceAll(got, []byte(outside), []byte(inside))
			if err != nil || !bytes.Equal(back, sent) || words == 0 || kept > words {
				t.Errorf("%s %s: %d bytes of %d, %d words exchanged, %d not: %v", f.name, name, len(got), len(sent), words, kept, err)
			}
		}
	}
	p.down(t)
	for _, h := range []*netlab.Host{n.CPE, n.HAG} {
		admin(t, h, "test $(sysctl -n net.mptcp.checksum_enabled) = 1")
	}
}
