//go:build linux

package tests

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/mptcp"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/rewrite"
)

// socket makes a client's socket, which connect connects. It closes with the test.
func socket(t *testing.T, h *netlab.Host, to netip.AddrPort, connect func(fd int, to unix.Sockaddr) error) (fd int) {
	t.Helper()
	domain, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())})
	if to.Addr().Is4() {
		domain, sa = unix.AF_INET, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	}
	err := h.Do(func() (err error) {
		fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err = connect(fd, sa); err == unix.EINPROGRESS {
			return nil
		}
		return err
	})
	t.Cleanup(func() { unix.Close(fd) })
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the client is connected", func() bool {
		_, err := unix.Getpeername(fd)
		return err == nil
	})
	return fd
}

// tuned connects a client's socket after setting its options.
func tuned(t *testing.T, h *netlab.Host, to netip.AddrPort, options map[[2]int]int) {
	t.Helper()
	socket(t, h, to, func(fd int, to unix.Sockaddr) error {
		for which, value := range options {
			if err := unix.SetsockoptInt(fd, which[0], which[1], value); err != nil {
				return fmt.Errorf("option %v: %w", which, err)
			}
		}
		return unix.Connect(fd, to)
	})
}

// fastOpen connects with data in the SYN (TCP Fast Open without a cookie, RFC 7413).
func fastOpen(t *testing.T, h *netlab.Host, to netip.AddrPort, data string) (fd int) {
	t.Helper()
	set(t, h, "5", "net.ipv4.tcp_fastopen") // as a client, no cookie needed
	return socket(t, h, to, func(fd int, to unix.Sockaddr) error {
		return unix.Sendto(fd, []byte(data), unix.MSG_FASTOPEN, to)
	})
}

// hears reads a socket until a text has arrived.
func hears(t *testing.T, fd int, want string) {
	t.Helper()
	var got []byte
	eventually(t, want+" from the server", func() bool {
		b := make([]byte, 64)
		if n, err := unix.Read(fd, b); err == nil {
			got = append(got, b[:n]...)
		}
		return string(got) == want
	})
}

// TestOnwardSYNIsLikeTheClients compares the SYN of a client that sets DSCP, MSS and
// hop limit at three places: the client, between the boxes, and the server.
func TestOnwardSYNIsLikeTheClients(t *testing.T) {
	const dscp, mss, hops = 46, 1000, 50 // expedited forwarding
	options := map[string]map[[2]int]int{
		"IPv6": {
			{unix.SOL_IPV6, unix.IPV6_TCLASS}:       dscp << 2,
			{unix.SOL_IPV6, unix.IPV6_UNICAST_HOPS}: hops,
			{unix.SOL_TCP, unix.TCP_MAXSEG}:         mss,
		},
		"IPv4": {
			{unix.SOL_IP, unix.IP_TOS}:      dscp << 2,
			{unix.SOL_IP, unix.IP_TTL}:      hops,
			{unix.SOL_TCP, unix.TCP_MAXSEG}: mss,
		},
	}
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			p := start(t, netlabtest.Build(t, twoLines))
			seen := tap(t, p.Network)
			refused := keepsSegments(t, p)
			l := listenAt(t, p.Server, f.server)
			serve(l, echo)
			tuned(t, p.Client, addrOf(l), options[f.name])
			var at [3]rewrite.Traits // at the client, on the line, at the server
			for i, where := range []*netlab.Tap{seen.client, seen.first, seen.server} {
				syn, _ := handshakes(t, where)
				at[i] = syn.Traits()
				if refused != nil && i == 1 { // a leg that speaks MPTCP
					at[i].MSS = mss
				}
				if at[i].DSCP != dscp || at[i].MSS != mss {
					t.Errorf("on link %d: %+v, want DSCP %d and MSS %d", i, at[i], dscp, mss)
				}
			}
			// A hop limit cannot be set on an MPTCP socket; the HAG's TCP socket counts on from the SYN's.
			if at[0].HopLimit != hops || at[2].HopLimit >= at[1].HopLimit {
				t.Errorf("hop limits %d, %d, %d", at[0].HopLimit, at[1].HopLimit, at[2].HopLimit)
			}
		})
	}
}

const keepsMSS = "relayed connections get the MSS of their route"

// keepsSegments returns the reason why boxes cannot give MPTCP connections the client's MSS
// on this machine, nil if they can, and compares it with what the boxes say.
func keepsSegments(t *testing.T, p *pair) error {
	t.Helper()
	refused := mptcp.TakesSegmentSize()
	if refused != nil {
		s, err := mptcp.OpenSegments()
		if refused = err; err == nil {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	for _, b := range []*netlab.Box{p.cpe, p.hag} {
		if told := strings.Count(strings.Join(b.Log(), "\n"), keepsMSS); (told == 1) != (refused != nil) {
			t.Errorf("the %s told %d times that it cannot pass on an MSS, which is so because of: %v", b.Role, told, refused)
		}
	}
	if refused != nil {
		t.Logf("cannot check the MSS between the boxes: %v", refused)
	}
	return refused
}

// TestDataInASYNIsNotLost sends data with a client's SYN (TCP Fast Open without a
// cookie, RFC 7413), through boxes that relay and through one with action learn.
func TestDataInASYNIsNotLost(t *testing.T) {
	const word = "early bird"
	for _, action := range []string{"relay", "learn"} {
		t.Run(action, func(t *testing.T) {
			n := netlabtest.Build(t, twoLines)
			if action == "relay" {
				start(t, n)
			} else {
				alone(t, n.CPE, "cpe", "--plain", netlab.CPELanInterface, "--path", "dsl", "--action", action)
			}
			seen := tap(t, n)
			l := listenAt(t, n.Server, netlab.Server6)
			serve(l, echo)
			hears(t, fastOpen(t, n.Client, addrOf(l), word), word)
			if syn, _ := handshakes(t, seen.client); string(syn.Payload) != word {
				t.Errorf("the SYN has the data %q", syn.Payload)
			}
		})
	}
}
