//go:build linux

package host

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilities are those that a box needs: for rules, routes and path manager; for
// transparent sockets; for clients with a port below 1024.
var capabilities = []struct {
	bit  uint
	name string
}{
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"},
	{unix.CAP_NET_RAW, "CAP_NET_RAW"},
	{unix.CAP_NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"},
}

// effective returns the effective capabilities of this process below 32, a bit each.
func effective() (uint32, error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	return data[0].Effective, nil
}

// IsNetAdmin reports whether this process may change the network settings of the machine.
func IsNetAdmin() bool {
	has, err := effective()
	return err == nil && has&(1<<unix.CAP_NET_ADMIN) != 0
}

// HideMemory keeps the memory of this process, which has secrets, out of core dumps, and from
// other processes of its user (prctl(2), PR_SET_DUMPABLE).
func HideMemory() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keep memory out of core dumps: %w", err)
	}
	return nil
}

// CheckPrivileges returns an error that names the capabilities which a box needs and
// this process lacks.
func CheckPrivileges() error {
	has, err := effective()
	if err != nil {
		return err
	}
	var missing []string
	for _, c := range capabilities {
		if has&(1<<c.bit) == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no privilege: run as root, or give it %s", strings.Join(missing, ", "))
	}
	return nil
}

// RaiseFileLimit lets this process open that many files, or as many as it may have,
// and returns the limit.
func RaiseFileLimit(want uint64) (limit uint64, err error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("read file limit: %w", err)
	}
	for _, try := range []unix.Rlimit{{Cur: want, Max: max(want, l.Max)}, {Cur: l.Max, Max: l.Max}} {
		if l.Cur >= want {
			break
		}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &try) == nil {
			l = try
		}
	}
	return l.Cur, nil
}

// Families returns the address families of this machine: unix.AF_INET6, unix.AF_INET.
func Families() []int {
	var out []int
	for _, f := range []struct {
		family int
		proof  string
	}{{unix.AF_INET6, sysctlRoot + "net/ipv6"}, {unix.AF_INET, sysctlRoot + "net/ipv4"}} {
		if _, err := os.Stat(f.proof); err == nil && enabled(f.family) {
			out = append(out, f.family)
		}
	}
	return out
}

// hasFamily reports whether this machine has an address family now.
func hasFamily(family int) bool { return slices.Contains(Families(), family) }

// enabled reports whether a family's loopback address can be bound: the kernel may
// have IPv6 with net.ipv6.conf.*.disable_ipv6 set.
func enabled(family int) bool {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if family == unix.AF_INET {
		return true
	}
	for _, of := range []string{"all", "lo"} {
		if off, err := ReadSysctl("net/ipv6/conf/" + of + "/disable_ipv6"); err == nil && off == "1" {
			return false
		}
	}
	return true
}

// Ended is the name of a process that has ended.
const Ended = "a process that has ended"

// ProcessAt names the process behind a netlink port (sockaddr_nl.nl_pid), "" if that cannot
// be told. The port of a process's first socket is its process ID. The process must have
// this network namespace, since the ID may be one of another PID namespace.
func ProcessAt(port uint32) string {
	dir := fmt.Sprintf("/proc/%d/", port)
	name, err := os.ReadFile(dir + "comm")
	switch {
	case port == 0:
		return ""
	case errors.Is(err, os.ErrNotExist):
		return Ended
	}
	here, err2 := os.Readlink("/proc/thread-self/ns/net")
	there, err3 := os.Readlink(dir + "ns/net")
	if errors.Join(err, err2, err3) != nil || here != there {
		return ""
	}
	return strings.TrimSpace(string(name))
}
