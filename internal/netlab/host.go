//go:build linux

package netlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrClosed means that the host has been closed.
var ErrClosed = errors.New("host is closed")

// Host is one machine of a network: a namespace that exists as long as an OS thread,
// locked to one goroutine, which runs calls in it.
// All methods may be called from any goroutine.
type Host struct {
	Name string

	tid   int
	ns    *os.File        // the namespace, for interfaces whose other end is elsewhere
	nl    *netlink.Handle // rtnetlink of the namespace
	calls chan call
	stop  chan struct{} // closed by Close
	done  chan struct{} // closed when the thread serves no more calls
	once  sync.Once
	errs  error // of Close
}

// call is a function for the host's thread and the place for its outcome.
type call struct {
	fn     func() error
	result chan error
}

// NewHost makes an anonymous network namespace with a working loopback interface.
func NewHost(name string) (*Host, error) {
	h := &Host{
		Name:  name,
		calls: make(chan call),
		stop:  make(chan struct{}),
		done:  make(chan struct{}),
	}
	ready := make(chan error)
	go offMainThread(func() { h.serve(ready) })
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("make host %s: %w", name, err)
	}
	if err := h.setUp(); err != nil {
		return nil, errors.Join(fmt.Errorf("set up host %s: %w", name, err), h.Close())
	}
	return h, nil
}

// offMainThread runs fn locked to an OS thread which is not the process's main
// thread. The main thread cannot end before the process does, and /proc/self/ns
// shows its namespaces.
func offMainThread(fn func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		fn() // never unlocked: the thread ends with the goroutine
		return
	}
	// While the main thread is locked here, a new goroutine gets another one.
	locked := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(locked)
		fn()
	}()
	<-locked
	runtime.UnlockOSThread()
}

// serve moves its thread into a new namespace and runs calls until Close.
func (h *Host) serve(ready chan<- error) {
	defer close(h.done)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		ready <- fmt.Errorf("unshare network namespace: %w", err)
		return
	}
	h.tid = unix.Gettid()
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		ready <- fmt.Errorf("open namespace: %w", err)
		return
	}
	h.ns = ns
	ready <- nil
	for {
		select {
		case c := <-h.calls:
			c.run()
		case <-h.stop:
			return
		}
	}
}

// run gives the caller an answer also when fn ends the goroutine, as a test's
// FailNow does. The host is then closed, since its thread goes too.
func (c call) run() {
	err := errors.New("function ended the host's thread")
	defer func() { c.result <- err }()
	err = c.fn()
}

// setUp brings the loopback interface up and sets the sysctls of all hosts.
func (h *Host) setUp() error {
	err := h.Do(func() (err error) {
		h.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	if err := h.up("lo"); err != nil {
		return err
	}
	for _, s := range hostSysctls {
		if err := h.Sysctl(s.key, s.value); err != nil && !(s.optional && errors.Is(err, os.ErrNotExist)) {
			return err
		}
	}
	return nil
}

// hostSysctls make addresses work at once and keep the network quiet. They are set
// before there are interfaces, which take them from "default".
var hostSysctls = []struct {
	key, value string
	optional   bool // absent from some kernels
}{
	{key: "net.ipv6.conf.all.disable_ipv6", value: "0"},
	{key: "net.ipv6.conf.default.disable_ipv6", value: "0"},
	{key: "net.ipv6.conf.all.accept_dad", value: "0"},
	{key: "net.ipv6.conf.default.accept_dad", value: "0"},
	{key: "net.ipv6.conf.default.accept_ra", value: "0"},
	{key: "net.ipv6.conf.default.router_solicitations", value: "0"},
	// Replies to one line's address may come in by another line.
	{key: "net.ipv4.conf.all.rp_filter", value: "0"},
	{key: "net.ipv4.conf.default.rp_filter", value: "0"},
	// Lines fail on purpose: that must not turn MPTCP off for an hour.
	{key: "net.mptcp.blackhole_timeout", value: "0", optional: true},
	// Connections must not begin with the metrics of earlier ones.
	{key: "net.ipv4.tcp_no_metrics_save", value: "1"},
}

// Do runs fn on the host's thread and returns its error. What fn creates there,
// sockets and netlink connections, belongs to the namespace for good, and files
// under /proc/sys/net are the namespace's own. The thread runs one fn at a
// time: fn must not wait for the network. A Do inside fn runs at once.
func (h *Host) Do(fn func() error) error {
	if unix.Gettid() == h.tid {
		return fn() // only the host's own goroutine runs on its thread
	}
	c := call{fn: fn, result: make(chan error, 1)}
	select {
	case h.calls <- c:
		return <-c.result
	case <-h.done:
		return fmt.Errorf("%s: %w", h.Name, ErrClosed)
	}
}

// Command is exec.Command for a program that [Host.Start] will start. The
// program is killed when the host is closed or the process dies.
func (h *Host) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Start starts cmd inside the host's namespace. The caller owes it a Wait.
func (h *Host) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// The signal is sent when the thread that started the child ends.
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return h.Do(cmd.Start)
}

// Run starts cmd inside the host's namespace and waits for its end.
func (h *Host) Run(cmd *exec.Cmd) error {
	if err := h.Start(cmd); err != nil {
		return err
	}
	return cmd.Wait()
}

// NetNS returns a path by which others can enter the namespace while the host is
// open, as with nsenter --net=PATH.
func (h *Host) NetNS() string {
	return fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), h.tid)
}

// Netlink runs fn on the host's thread with an rtnetlink connection of the
// namespace. The connection must not be kept: once closed it would act on
// whatever namespace its caller is in.
func (h *Host) Netlink(fn func(*netlink.Handle) error) error {
	return h.Do(func() error { return fn(h.nl) })
}

// Sysctl sets a kernel parameter of the namespace. The parts of key are
// separated by dots, or by slashes where a part has a dot itself.
func (h *Host) Sysctl(key, value string) error {
	err := h.Do(func() error { return os.WriteFile(sysctlPath(key), []byte(value), 0) })
	if err != nil {
		return fmt.Errorf("sysctl %s=%s: %w", key, value, err)
	}
	return nil
}

// ReadSysctl reads a kernel parameter of the namespace.
func (h *Host) ReadSysctl(key string) (string, error) {
	var b []byte
	err := h.Do(func() (err error) {
		b, err = os.ReadFile(sysctlPath(key))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("sysctl %s: %w", key, err)
	}
	return strings.TrimSpace(string(b)), nil
}

func sysctlPath(key string) string {
	if !strings.Contains(key, "/") {
		key = strings.ReplaceAll(key, ".", "/")
	}
	return "/proc/sys/" + key
}

// Close ends the host's thread, and by it the programs started on it. The
// namespace goes when its last socket is closed. Later calls do nothing.
func (h *Host) Close() error {
	h.once.Do(func() {
		close(h.stop)
		<-h.done
		if h.nl != nil {
			h.nl.Close()
		}
		h.errs = h.ns.Close()
	})
	return h.errs
}

// Enter returns a command that opens a shell on the host, as long as the host is open.
func (h *Host) Enter() string {
	if Reexeced() {
		return fmt.Sprintf("nsenter --user=/proc/%d/ns/user --preserve-credentials --net=%s", os.Getpid(), h.NetNS())
	}
	return "nsenter --net=" + h.NetNS()
}
