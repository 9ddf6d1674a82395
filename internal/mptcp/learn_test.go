//go:build linux

package mptcp

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/paths"
)

// Of uapi linux/mptcp.h and linux/mptcp_pm.h, beside those of the package.
const (
	solMPTCP  = 284
	mptcpInfo = 1
)

// further is the address from which a connection's second subflow comes.
var further = netip.MustParseAddr("127.0.0.2")

// openFurther makes the kernel's own path manager open a second subflow for each
// connection of the test's network namespace.
func openFurther(t *testing.T) {
	t.Helper()
	p, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.SetLimits(paths.SubflowLimits{Subflows: 1}); err != nil {
		t.Fatal(err)
	}
	endpoint := Address{AddrPort: netip.AddrPortFrom(further, 0), Flags: flagSubflow}
	if _, err := p.do(cmdAddAddr, netlink.Acknowledge, endpoint.append(nil, attrAddr)); err != nil {
		t.Fatal(err)
	}
}

// subflows returns the number of a connection's subflows beside the first one.
func subflows(t *testing.T, fd int) int {
	t.Helper()
	n, err := unix.GetsockoptInt(fd, solMPTCP, mptcpInfo) // begins with struct mptcp_info's mptcpi_subflows, u8
	if err != nil {
		t.Fatal(err)
	}
	var info [4]byte
	binary.NativeEndian.PutUint32(info[:], uint32(n))
	return int(info[0])
}

// transfer sends bytes over a new connection of two subflows, and closes it.
func transfer(t *testing.T, bytes int) {
	t.Helper()
	c := connect(t, unix.IPPROTO_MPTCP, loopback4)
	client, server := file(t, c.client), file(t, c.server)
	// The server must have data acknowledged before further subflows carry any.
	if _, err := client.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); subflows(t, c.client) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no second subflow")
		}
	}
	read := make(chan error, 1)
	go func() {
		n, err := io.Copy(io.Discard, server)
		if err == nil && n != int64(bytes)+1 {
			err = io.ErrUnexpectedEOF
		}
		read <- err
	}()
	_, err := client.Write(make([]byte, bytes))
	err = errors.Join(err, unix.Shutdown(c.client, unix.SHUT_WR), <-read, unix.Shutdown(c.server, unix.SHUT_WR))
	if err = errors.Join(err, client.Close(), server.Close()); err != nil {
		t.Fatal(err)
	}
}

// file returns a copy of a descriptor for blocking reads and writes.
func file(t *testing.T, fd int) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "connection")
}

// afterTransfer returns the window of further subflows after a transfer of some bytes,
// with a configured window of two segments and, unless it is 0, one learnt before.
func afterTransfer(t *testing.T, before uint32, bytes int) int {
	t.Helper()
	ownNetwork(t)
	// Reno has no slow start threshold before the first loss; others set one earlier.
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_congestion_control", []byte("reno"), 0); err != nil {
		t.Fatal(err)
	}
	w := open(t, 2)
	openFurther(t)
	if before != 0 {
		teach(t, w, further, loopback4, before)
	}
	transfer(t, bytes)
	// The second subflow may end a moment after the connection.
	for end := time.Now().Add(300 * time.Millisecond); w.Further(further, loopback4) == 2 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if got := w.Further(loopback4, further); got != 2 {
		t.Errorf("a subflow that sent nothing teaches %d segments", got)
	}
	return w.Further(further, loopback4)
}

func TestAFurtherSubflowTeachesAtMostFourTimesTheConfiguredWindow(t *testing.T) {
	if got := afterTransfer(t, 0, 16<<20); got != 8 {
		t.Errorf("learnt are %d segments, want 8", got)
	}
}

func TestASubflowWithFewBytesTeachesNothing(t *testing.T) {
	if got := afterTransfer(t, 0, 512<<10); got != 2 {
		t.Errorf("learnt are %d segments, want the configured 2", got)
	}
}

func TestASubflowWithoutLossesLowersNoWindow(t *testing.T) {
	if got := afterTransfer(t, 100, 16<<20); got != 100 {
		t.Errorf("learnt are %d segments, want 100 as before", got)
	}
}
