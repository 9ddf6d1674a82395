package mptcp

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Of uapi linux/mptcp.h and linux/mptcp_pm.h.
const (
	solMPTCP  = 284
	mptcpInfo = 1

	cmdAddAddr   = 1 // MPTCP_PM_CMD_ADD_ADDR
	cmdSetLimits = 5 // MPTCP_PM_CMD_SET_LIMITS

	attrAddr     = 1 // MPTCP_PM_ATTR_ADDR
	attrSubflows = 3 // MPTCP_PM_ATTR_SUBFLOWS

	addrFamily = 1 // MPTCP_PM_ADDR_ATTR_FAMILY
	addrFour   = 3 // MPTCP_PM_ADDR_ATTR_ADDR4
	addrFlags  = 6 // MPTCP_PM_ADDR_ATTR_FLAGS

	flagSubflow = 1 << 1 // MPTCP_PM_ADDR_FLAG_SUBFLOW
)

// further is the address from which a connection's second subflow comes.
var further = netip.MustParseAddr("127.0.0.2")

// openFurther makes the kernel's own path manager open a second subflow for each
// connection of the test's network namespace.
func openFurther(t *testing.T) {
	t.Helper()
	c, err := genetlink.Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	family, err := c.GetFamily("mptcp_pm")
	if err != nil {
		t.Fatal(err)
	}
	execute := func(command uint8, encode func(*netlink.AttributeEncoder)) {
		t.Helper()
		e := netlink.NewAttributeEncoder()
		encode(e)
		data, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		m := genetlink.Message{Header: genetlink.Header{Command: command, Version: family.Version}, Data: data}
		if _, err := c.Execute(m, family.ID, netlink.Request|netlink.Acknowledge); err != nil {
			t.Fatal(err)
		}
	}
	execute(cmdSetLimits, func(e *netlink.AttributeEncoder) { e.Uint32(attrSubflows, 1) })
	execute(cmdAddAddr, func(e *netlink.AttributeEncoder) {
		e.Nested(attrAddr, func(e *netlink.AttributeEncoder) error {
			e.Uint16(addrFamily, unix.AF_INET)
			e.Bytes(addrFour, further.AsSlice())
			e.Uint32(addrFlags, flagSubflow)
			return nil
		})
	})
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
