//go:build linux

package netlab_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"golang.org/x/sys/unix"
)

// echo serves one port on all of a host's addresses until the test ends.
func echo(t *testing.T, h *netlab.Host) (port string) {
	t.Helper()
	l, err := h.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	_, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// message is larger than the packets of neighbour discovery on a line.
var message = make([]byte, 4096)

// exchange connects, sends message and reads it back; it returns the times both took.
func exchange(t *testing.T, h *netlab.Host, local, remote string) (connect, echo time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	start := time.Now()
	c, err := h.Dial(ctx, "tcp", local, remote)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	connect = time.Since(start)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	start = time.Now()
	if _, err := c.Write(message); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, len(message))); err != nil {
		t.Fatal(err)
	}
	return connect, time.Since(start)
}

// takes checks that the client connects and hears an echo in a time of rtt: never in
// less, and in little more at least once, since the machine may be busy.
func takes(t *testing.T, n *netlab.Network, remote string, rtt time.Duration) {
	t.Helper()
	netlabtest.Eventually(t, fmt.Sprintf("%s: never in %v and a little", remote, rtt), func() bool {
		connect, round := exchange(t, n.Client, "", remote)
		t.Logf("%s: connect %v, echo %v", remote, connect, round)
		if least := rtt - time.Millisecond; connect < least || round < least {
			t.Errorf("%s: connect %v, echo %v, want %v", remote, connect, round, rtt)
		}
		return max(connect, round) < rtt+15*time.Millisecond
	})
}

func TestClientReachesServerThroughPlainForwarding(t *testing.T) {
	const oneWay = 15 * time.Millisecond
	for _, tt := range []struct {
		name     string
		topology netlab.Topology
		rtt      time.Duration
	}{
		{"no delay", netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl"}}}, 0},
		{"delay on the line", netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl", Delay: oneWay}, {Name: "lte"}}}, 2 * oneWay},
		{"delay at the server", netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl"}}, ServerDelay: oneWay}, 2 * oneWay},
		{"both", netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl", Delay: oneWay}}, ServerDelay: oneWay}, 4 * oneWay},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := netlabtest.Build(t, tt.topology)
			port := echo(t, n.Server)
			for _, a := range []string{netlab.Server6.String(), netlab.Server4.String()} {
				takes(t, n, net.JoinHostPort(a, port), tt.rtt)
			}
		})
	}
}

func TestOwnAddressTakesOwnLine(t *testing.T) {
	n := netlabtest.Build(t, netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl"}, {Name: "lte"}, {Name: "sat"}}})
	port := echo(t, n.HAG)
	for i, l := range n.Lines {
		for _, a := range [][2]string{{l.CPE6.String(), l.HAG6.String()}, {l.CPE4.String(), l.HAG4.String()}} {
			before := make([]uint64, len(n.Lines))
			for j, other := range n.Lines {
				before[j], _ = other.Bytes()
			}
			exchange(t, n.CPE, a[0], net.JoinHostPort(a[1], port))
			for j, other := range n.Lines {
				up, _ := other.Bytes()
				if carried := up - before[j]; (i == j) != (carried > uint64(len(message))) {
					t.Errorf("from %s: line %s carried %d bytes", a[0], other.Name, carried)
				}
			}
		}
	}
}

func TestCongestionControlIsTheOneReported(t *testing.T) {
	for _, want := range []string{"", "cubic", "reno", "no-such"} {
		n := netlabtest.Build(t, netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl"}}, CongestionControl: want})
		t.Logf("asked for %q, got %s", want, n.CongestionControl)
		l, err := n.Server.Listen("tcp", net.JoinHostPort(netlab.Server6.String(), "80"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := n.Client.Dial(t.Context(), "tcp", "", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, c := range []net.Conn{c, s} {
			if got := congestionControl(t, c); got != n.CongestionControl {
				t.Errorf("asked for %q: connection uses %s, network reports %s", want, got, n.CongestionControl)
			}
		}
	}
}

func congestionControl(t *testing.T, c net.Conn) (name string) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		name, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	})
	if err != nil {
		t.Fatal(err)
	}
	return name
}
