//go:build linux

package relay_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/relay"
)

func TestResetsClientWithoutAFreeDescriptor(t *testing.T) {
	var taken descriptors
	t.Cleanup(taken.release)
	// A second loop might accept the client by the descriptor that the first gives up.
	b := newBench(t, benchConfig{loops: 1, connected: func(b *bench, _ *relay.Conn, id uint32, _ error) {
		if err := taken.all(); err != nil {
			b.t.Error(err)
		}
		b.verdict(b.queue.Release(id, b.delivery()))
	}})
	l := b.listen("tcp", server6)
	fd := b.clientSocket(l.Addr().(*net.TCPAddr).AddrPort())
	defer unix.Close(fd)
	err := b.readError(fd)
	taken.release()
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client sees %v, want a connection reset", err)
	}
	if waiting, _ := b.relay.Left(); waiting != 1 {
		t.Errorf("%d connections wait, want the one whose client was turned away", waiting)
	}
	b.relay.Abort(b.connectedOne())
}

// descriptors are all that the process may have.
type descriptors struct {
	mu     sync.Mutex
	limits unix.Rlimit
	fds    []int
}

// all takes every descriptor up to the highest one in use.
func (d *descriptors) all() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &d.limits); err != nil {
		return err
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	low := d.limits
	low.Cur = 0
	for _, e := range entries {
		n, err := strconv.ParseUint(e.Name(), 10, 31)
		if err != nil {
			return err
		}
		low.Cur = max(low.Cur, n+1)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		return err
	}
	for {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil
		}
		d.fds = append(d.fds, fd)
	}
}

func (d *descriptors) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.limits.Max != 0 {
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &d.limits)
	}
	for _, fd := range d.fds {
		unix.Close(fd)
	}
	d.fds = nil
}

// clientSocket starts a connection that needs no further descriptor.
func (b *bench) clientSocket(to netip.AddrPort) (fd int) {
	b.t.Helper()
	check(b.t, b.Client.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.Connect(fd, &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())})
		if errors.Is(err, unix.EINPROGRESS) {
			return nil
		}
		return err
	}))
	return fd
}
