//go:build linux

package netlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// guard is set in the environment of a re-executed process, which must not re-execute.
const guard = "SYNBOND_LAB_REEXEC"

// Probe returns the reason why this process cannot make hosts, or nil if it can.
func Probe() error {
	h, err := NewHost("probe")
	if err != nil {
		return err
	}
	return h.Close()
}

// Reexec returns nil at once in a process that can make hosts. Elsewhere it
// runs the program again with the same arguments, as root of a user and a
// network namespace of its own, and exits with that process's code. Where
// neither is possible it returns an error with the settings to change.
func Reexec() error {
	probe := Probe()
	again := Reexeced()
	switch {
	case probe == nil && again:
		return loopbackUp()
	case probe == nil:
		return nil
	case again:
		return fmt.Errorf("a user namespace gives no privileges here: %w%s", probe, advice())
	}
	cmd := selfInUserNamespace()
	// The death signal is tied to the thread that starts the child.
	runtime.LockOSThread()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	if err := cmd.Start(); err != nil {
		signal.Stop(signals)
		runtime.UnlockOSThread()
		return fmt.Errorf("no privileges to make network namespaces (%w), and no user namespace: %w%s", probe, err, advice())
	}
	go func() {
		for s := range signals {
			cmd.Process.Signal(s) //nolint:errcheck // it may have ended
		}
	}()
	os.Exit(exitCode(cmd.Wait()))
	panic("unreachable")
}

// Reexeced reports whether [Reexec] has started this process, in a user namespace.
func Reexeced() bool { return os.Getenv(guard) != "" }

// loopbackUp makes 127.0.0.1 and ::1 work in the process's own new namespace.
func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	return nil
}

// selfInUserNamespace returns a command for this program and its arguments, as root
// of a new user namespace.
func selfInUserNamespace() *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), guard+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	return cmd
}

// exitCode returns the exit code that a shell would report for a child.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "synbond:", err)
		return 1
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return exit.ExitCode()
}

// advice lists the settings of this machine that forbid user namespaces.
func advice() string {
	var hints []string
	for _, s := range []struct{ path, refuses, hint string }{
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"},
		{"/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"},
		{"/proc/sys/user/max_net_namespaces", "0", "sysctl user.max_net_namespaces=10000"},
		{
			"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1",
			"sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with userns",
		},
	} {
		b, err := os.ReadFile(s.path)
		if err == nil && strings.TrimSpace(string(b)) == s.refuses {
			hints = append(hints, s.hint)
		}
	}
	if len(hints) == 0 {
		hints = append(hints, "run as root, or allow user namespaces (in a container: its seccomp profile or runtime)")
	}
	return "; to enable: " + strings.Join(hints, "; ")
}
