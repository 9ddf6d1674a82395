//go:build linux

package netlab_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"golang.org/x/sys/unix"
)

func TestHostHasANamespaceOfItsOwn(t *testing.T) {
	before, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	a, b := netlabtest.NewHost(t, "a"), netlabtest.NewHost(t, "b")
	seen := map[string]bool{before: true}
	for _, h := range []*netlab.Host{a, b} {
		ns, err := os.Readlink(h.NetNS())
		if err != nil {
			t.Fatal(err)
		}
		if seen[ns] {
			t.Errorf("%s shares namespace %s", h.Name, ns)
		}
		seen[ns] = true
	}
	if now, _ := os.Readlink("/proc/self/ns/net"); now != before {
		t.Errorf("the process moved from %s to %s", before, now)
	}
}

func TestSocketsStayInTheirHost(t *testing.T) {
	a, b := netlabtest.NewHost(t, "a"), netlabtest.NewHost(t, "b")
	for _, network := range []string{"tcp", "mptcp"} {
		l, err := a.Listen(network, "[::1]:7000")
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.Dial(t.Context(), network, "::1", "[::1]:7000")
		if err != nil {
			t.Fatalf("%s: %v", network, err)
		}
		c.Close()
		if _, err := b.Dial(t.Context(), network, "", "[::1]:7000"); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: dial from the other host: %v, want connection refused", network, err)
		}
		l.Close()
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	h := netlabtest.NewHost(t, "a")
	// A full accept queue leaves the next SYN without an answer.
	var fd int
	err := h.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(
			unix.Bind(fd, &unix.SockaddrInet4{Port: 7000, Addr: [4]byte{127, 0, 0, 1}}),
			unix.Listen(fd, 0),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for ctx.Err() == nil {
		c, err := h.Dial(ctx, "tcp", "", "127.0.0.1:7000")
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			return
		}
		defer c.Close()
	}
	t.Error("the queue never filled")
}

func TestDoReturnsWhateverTheFunctionDoes(t *testing.T) {
	h := netlabtest.NewHost(t, "a")
	failed := errors.New("failed")
	if err := h.Do(func() error { return h.Do(func() error { return failed }) }); err != failed {
		t.Errorf("nested Do returned %v", err)
	}
	if err := h.Do(func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("a function that ended the thread returned no error")
	}
	if err := h.Do(func() error { return nil }); !errors.Is(err, netlab.ErrClosed) {
		t.Errorf("Do on a dead host returned %v", err)
	}
}

func TestClosedHostRefusesCalls(t *testing.T) {
	h := netlabtest.NewHost(t, "a")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.AddAddress("lo", netip.MustParsePrefix("2001:db8::1/64")); !errors.Is(err, netlab.ErrClosed) {
		t.Errorf("AddAddress on a closed host returned %v", err)
	}
	if _, err := h.Dial(t.Context(), "tcp", "", "[::1]:1"); !errors.Is(err, netlab.ErrClosed) {
		t.Errorf("Dial on a closed host returned %v", err)
	}
}

func TestSysctlIsTheHostsOwn(t *testing.T) {
	const key = "net.ipv6.conf.all.forwarding"
	a, b := netlabtest.NewHost(t, "a"), netlabtest.NewHost(t, "b")
	if err := a.Sysctl(key, "1"); err != nil {
		t.Fatal(err)
	}
	for h, want := range map[*netlab.Host]string{a: "1", b: "0"} {
		if got, err := h.ReadSysctl(key); err != nil || got != want {
			t.Errorf("%s: %s = %q, %v, want %s", h.Name, key, got, err, want)
		}
	}
	if err := a.Sysctl("net.no.such.key", "1"); err == nil {
		t.Error("an unknown key was set")
	}
}

func TestCommandRunsInItsHostAndEndsWithIt(t *testing.T) {
	h := netlabtest.NewHost(t, "a")
	want, err := os.Readlink(h.NetNS())
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd := h.Command("readlink", "/proc/self/ns/net")
	cmd.Stdout = &out
	if err := h.Run(cmd); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(out.String()); got != want {
		t.Errorf("program ran in %s, want %s", got, want)
	}
	sleeper := h.Command("sleep", "60")
	if err := h.Start(sleeper); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- sleeper.Wait() }()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Errorf("program ended with %v, want a signal", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the program outlives its host")
		sleeper.Process.Kill()
	}
}

func TestConnectJoinsTwoHosts(t *testing.T) {
	a, b := netlabtest.NewHost(t, "a"), netlabtest.NewHost(t, "b")
	if err := netlab.Connect(a, "x", b, "y"); err != nil {
		t.Fatal(err)
	}
	for h, end := range map[*netlab.Host][2]string{a: {"x", "2001:db8::1/64"}, b: {"y", "2001:db8::2/64"}} {
		p := netip.MustParsePrefix(end[1])
		if err := errors.Join(
			h.AddAddress(end[0], p),
			h.AddRoute(netlab.Route{To: p.Masked(), Dev: end[0]}),
		); err != nil {
			t.Fatal(err)
		}
	}
	exchange(t, a, "", net.JoinHostPort("2001:db8::2", echo(t, b)))
}
