//go:build linux

package mptcp

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// openSegments opens the limits of segments in the test's network namespace.
func openSegments(t *testing.T) *Segments {
	t.Helper()
	s, err := OpenSegments()
	if errors.Is(err, unix.EPERM) || errors.Is(err, ebpf.ErrNotSupported) { // in a user namespace
		t.Skipf("no BPF program: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// segmentSizes connects over loopback, and returns the MSS that the two ends send with.
// prepare may change the socket before it connects.
func segmentSizes(t *testing.T, protocol int, to netip.Addr, prepare func(fd int) error) (client, server int) {
	t.Helper()
	c := connectPrepared(t, protocol, to, prepare)
	size := func(fd int) int {
		info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
		if err != nil {
			t.Fatal(err)
		}
		return int(info.Snd_mss)
	}
	return size(c.client), size(c.server)
}

func TestLimitsTheSegmentsOfAnMPTCPConnection(t *testing.T) {
	const limit = 1000 // bytes, of which options take some
	ownNetwork(t)
	s := openSegments(t)
	for _, to := range []netip.Addr{loopback6, loopback4} {
		client, server := segmentSizes(t, unix.IPPROTO_MPTCP, to, func(fd int) error { return s.Limit(fd, limit) })
		if client > limit || client < limit-100 || server > limit || server < limit-100 {
			t.Errorf("%s: the client sends segments of %d bytes, the server of %d, want 900 to 1000", to, client, server)
		}
		client, server = segmentSizes(t, unix.IPPROTO_MPTCP, to, nil)
		if client <= limit || server <= limit {
			t.Errorf("%s: without a limit the client sends segments of %d bytes, the server of %d", to, client, server)
		}
	}
}

func TestLimitTakesNoSocketThatIsNone(t *testing.T) {
	ownNetwork(t)
	s := openSegments(t)
	if err := s.Limit(-1, 1000); err == nil {
		t.Error("no error")
	}
}
