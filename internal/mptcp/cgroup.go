//go:build linux

package mptcp

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ownCgroup opens this process's folder in the cgroup2 hierarchy. It needs no mount
// point: `ip netns exec`, for one, hides everything below /sys.
func ownCgroup() (int, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return -1, fmt.Errorf("find own cgroup: %w", err)
	}
	own := cgroupPath(string(b))
	if own == "" {
		return -1, errors.New("find own cgroup: there is no cgroup2")
	}
	root, err := cgroupRoot()
	if err != nil {
		return -1, fmt.Errorf("open cgroup2: %w", err)
	}
	defer unix.Close(root)
	fd, err := unix.Openat(root, "."+own, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return fd, os.NewSyscallError("open own cgroup", err)
}

// cgroupPath returns the path of the process's cgroup in the cgroup2 hierarchy, from
// the text of /proc/self/cgroup (cgroups(7)), or "" if there is none.
func cgroupPath(text string) string {
	for line := range strings.Lines(text) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(path, "\n")
		}
	}
	return ""
}

// cgroupRoot opens the root of the cgroup2 hierarchy in this process's cgroup
// namespace: /proc/self/cgroup is relative to the same root.
func cgroupRoot() (int, error) {
	fs, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
}

// netnsCookie returns the kernel's number for this network namespace.
func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return cookie, os.NewSyscallError("getsockopt SO_NETNS_COOKIE", err)
}
