//go:build linux

package mptcp

import (
	"errors"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// kernelWindow is the kernel's own initial window, in segments.
const kernelWindow = 10

var (
	loopback6 = netip.MustParseAddr("::1")
	loopback4 = netip.MustParseAddr("127.0.0.1")
)

// ownNetwork moves the test to a network namespace of its own, in which only the
// loopback interface is up. The goroutine keeps its thread, which ends with it.
func ownNetwork(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network namespace: %v", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatal(err)
	}
}

// open opens a window in the test's network namespace.
func open(t *testing.T, segments int) *Window {
	t.Helper()
	w, err := OpenWindow(segments)
	if errors.Is(err, unix.EPERM) {
		t.Skipf("no BPF program: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// connection is both ends of a connection over loopback, as file descriptors.
type connection struct{ client, server int }

// connect makes a connection of a protocol (IPPROTO_TCP, IPPROTO_MPTCP) that ends with
// the test at the latest.
func connect(t *testing.T, protocol int, to netip.Addr) (c connection) {
	t.Helper()
	return connectPrepared(t, protocol, to, nil)
}

// connectPrepared is connect with a function, if not nil, that changes the client's socket first.
func connectPrepared(t *testing.T, protocol int, to netip.Addr, prepare func(fd int) error) (c connection) {
	t.Helper()
	family, addr := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: to.As16()})
	if to.Is4() {
		family, addr = unix.AF_INET, &unix.SockaddrInet4{Addr: to.As4()}
	}
	socket := func() int {
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	listener := socket() // open until the test ends: further subflows come to it, too
	t.Cleanup(func() { unix.Close(listener) })
	c.client = socket()
	t.Cleanup(func() { unix.Close(c.client) })
	err := errors.Join(unix.Bind(listener, addr), unix.Listen(listener, 1))
	if err != nil {
		t.Fatal(err)
	}
	if addr, err = unix.Getsockname(listener); err != nil {
		t.Fatal(err)
	}
	if prepare != nil {
		if err := prepare(c.client); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Connect(c.client, addr); err != nil {
		t.Fatal(err)
	}
	if c.server, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(c.server) })
	return c
}

// expectWindow compares the congestion windows of a new connection's first subflow, at
// both of its ends.
func expectWindow(t *testing.T, what string, protocol int, to netip.Addr, want uint32) {
	t.Helper()
	c := connect(t, protocol, to)
	for end, fd := range map[string]int{"client": c.client, "server": c.server} {
		info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
		if err != nil {
			t.Fatal(err)
		}
		if info.Snd_cwnd != want {
			t.Errorf("%s: the %s begins with %d segments, want %d", what, end, info.Snd_cwnd, want)
		}
	}
}

func TestSubflowsBeginWithTheConfiguredWindow(t *testing.T) {
	ownNetwork(t)
	w := open(t, 64)
	expectWindow(t, "MPTCP over IPv6", unix.IPPROTO_MPTCP, loopback6, 64)
	expectWindow(t, "MPTCP over IPv4", unix.IPPROTO_MPTCP, loopback4, 64)
	expectWindow(t, "plain TCP", unix.IPPROTO_TCP, loopback6, kernelWindow)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	expectWindow(t, "MPTCP after Close", unix.IPPROTO_MPTCP, loopback6, kernelWindow)
}

func TestOtherNetworkNamespacesKeepTheKernelsWindow(t *testing.T) {
	ownNetwork(t)
	open(t, 64)
	ownNetwork(t)
	expectWindow(t, "MPTCP in another network namespace", unix.IPPROTO_MPTCP, loopback6, kernelWindow)
}

func TestAFirstSubflowIgnoresWhatIsLearnt(t *testing.T) {
	ownNetwork(t)
	w := open(t, 64)
	teach(t, w, loopback4, loopback4, 200)
	expectWindow(t, "MPTCP", unix.IPPROTO_MPTCP, loopback4, 64)
}

func TestFurtherIsTheConfiguredWindowUntilOneIsLearnt(t *testing.T) {
	ownNetwork(t)
	w := open(t, 64)
	for _, at := range []netip.Addr{loopback4, loopback6} {
		if got := w.Further(at, at); got != 64 {
			t.Errorf("%s: %d segments before one is learnt, want 64", at, got)
		}
		teach(t, w, at, at, 200)
		if got := w.Further(at, at); got != 200 {
			t.Errorf("%s: %d segments, learnt are 200", at, got)
		}
	}
}

// teach writes a learnt window for subflows between two addresses.
func teach(t *testing.T, w *Window, local, remote netip.Addr, segments uint32) {
	t.Helper()
	var pair windowAddressPair
	copy(pair.Local[:], local.AsSlice())
	copy(pair.Remote[:], remote.AsSlice())
	if err := w.learnt.Put(pair, segments); err != nil {
		t.Fatal(err)
	}
}
