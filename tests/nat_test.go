//go:build linux

package tests

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/tooltest"
)

// natForgets is the idle time, in seconds, after which the NATs of these tests forget a
// connection. It is longer than a connection may be quiet before it rests.
const natForgets = "10"

// translate puts a NAT on a line, which forgets idle connections and drops what it has
// forgotten.
func translate(t *testing.T, l *netlab.Line) {
	t.Helper()
	admin(t, l.Router(),
		"nft 'add table inet nat; add chain inet nat post { type nat hook postrouting priority 100; }; add rule inet nat post oifname hag masquerade'",
		"nft 'add chain inet nat forward { type filter hook forward priority 0; }; add rule inet nat forward ct state invalid drop'",
		"nft 'add chain inet nat in { type filter hook input priority 0; }; add rule inet nat in iifname hag meta l4proto tcp counter drop'",
		"sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_established="+natForgets+" net.netfilter.nf_conntrack_tcp_loose=0")
}

// prompter is a connection from the client whose server speaks when it is told to.
type prompter struct{ client, server net.Conn }

func newPrompter(t *testing.T, n *netlab.Network, f family) prompter {
	t.Helper()
	l := listen(t, n.Server, "tcp", netip.AddrPortFrom(f.server, 0))
	c := dial(t, n.Client, addrOf(l))
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return prompter{c, s}
}

// speak has the server say a word, which the client must hear soon.
func (p prompter) speak(t *testing.T, when string) {
	t.Helper()
	if _, err := p.server.Write([]byte("word")); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	if err := p.client.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var b [4]byte
	if _, err := p.client.Read(b[:]); err != nil {
		t.Errorf("%s: the client hears nothing: %v", when, err)
	}
}

func TestIdleConnectionsOutliveANATThatForgets(t *testing.T) {
	long(t)
	t.Parallel()
	tooltest.Need(t, "a NAT on a line", "nft", "sysctl", "sh")
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			n := netlabtest.Build(t, twoLines)
			lte := n.Line("lte")
			translate(t, lte)
			p := start(t, n)
			sees(t, p.cpe, "lte", "is behind a NAT", func(s *api.PathState) bool {
				return isUp(s) && s.Seen4.IsValid() && s.Seen4 != s.Address4 && s.Seen6.IsValid() && s.Seen6 != s.Address6
			})
			c := newPrompter(t, n, f)
			sees(t, p.cpe, "lte", "has a subflow", has(1))
			c.speak(t, "at first")
			sees(t, p.cpe, "lte", "has none while the connection is idle", has(0))
			c.speak(t, "at rest")
			if err := n.Line("dsl").Carrier(false); err != nil {
				t.Fatal(err)
			}
			sees(t, p.cpe, "lte", "has one again", has(1))
			c.speak(t, "without the first line")
			time.Sleep(22 * time.Second) // until it has been forgotten once, and opened again
			c.speak(t, "after a long pause")
		})
	}
}

func TestPathWithItsOwnKeepaliveKeepsItsSubflows(t *testing.T) {
	long(t)
	t.Parallel()
	tooltest.Need(t, "a NAT on a line", "nft", "sysctl", "sh")
	n := netlabtest.Build(t, twoLines)
	translate(t, n.Line("lte"))
	p := &pair{Network: n, dir: scratch(t)}
	t.Cleanup(func() { p.down(t) })
	var err error
	if p.hag, err = n.StartHAG(synbond(), p.dir); err != nil {
		t.Fatal(err)
	}
	if p.cpe, err = n.StartCPE(synbond(), p.dir, map[string]string{"lte": "keepalive=3s"}); err != nil {
		t.Fatal(err)
	}
	sees(t, p.cpe, "lte", "is up", isUp)
	c := newPrompter(t, n, families[1])
	sees(t, p.cpe, "lte", "has a subflow", has(1))
	before, _ := flowFrom(t, p.cpe, c.client)
	time.Sleep(15 * time.Second)
	after, _ := flowFrom(t, p.cpe, c.client)
	if len(before.Subflows) != 2 || len(after.Subflows) != 2 || after.Subflows[1].Local != before.Subflows[1].Local {
		t.Errorf("subflows %+v, then %+v", before.Subflows, after.Subflows)
	}
}
