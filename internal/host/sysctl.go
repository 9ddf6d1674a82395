//go:build linux

package host

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const sysctlRoot = "/proc/sys/"

// Sysctl is a kernel setting that a box needs.
type Sysctl struct {
	Key      string // with slashes, as under /proc/sys: net/mptcp/enabled
	Value    string
	Optional bool // not every kernel has it
}

// ReadSysctl returns the value of a kernel setting, in the network namespace of the
// calling thread.
func ReadSysctl(key string) (string, error) {
	b, err := readProc(sysctlRoot + key)
	return strings.TrimSpace(string(b)), err
}

// readProc reads a file of at most 4 KiB under /proc. [os.ReadFile] takes three times as many
// system calls, and settings are read all the time.
func readProc(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	b := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, b)
		switch {
		case err == nil:
			return b[:n], nil
		case !errors.Is(err, unix.EINTR):
			return nil, &os.PathError{Op: "read", Path: name, Err: err}
		}
	}
}

func writeSysctl(key, value string) error {
	return os.WriteFile(sysctlRoot+key, []byte(value), 0)
}

// Settings with three values: the smallest, the initial and the largest size of a TCP
// socket's buffer, in bytes (tcp(7)).
const (
	ReceiveBuffer = "net/ipv4/tcp_rmem"
	SendBuffer    = "net/ipv4/tcp_wmem"
)

// ReadSizes returns the values of [ReceiveBuffer] or [SendBuffer].
func ReadSizes(key string) (sizes [3]int, err error) {
	text, err := ReadSysctl(key)
	if err != nil {
		return sizes, err
	}
	if _, err := fmt.Sscan(text, &sizes[0], &sizes[1], &sizes[2]); err != nil {
		return sizes, fmt.Errorf("%s is %q: %w", key, text, err)
	}
	return sizes, nil
}

// RaiseSizes raises the values of [ReceiveBuffer] or [SendBuffer] to at least these.
func (j *Journal) RaiseSizes(key string, least [3]int) error {
	sizes, err := ReadSizes(key)
	if err != nil {
		return err
	}
	for i := range sizes {
		sizes[i] = max(sizes[i], least[i])
	}
	return j.SetSysctl(Sysctl{Key: key, Value: fmt.Sprintf("%d\t%d\t%d", sizes[0], sizes[1], sizes[2])})
}

// SetSysctl changes a kernel setting, unless it has the value already. The value before is
// what the journal restores.
func (j *Journal) SetSysctl(s Sysctl) error {
	old, err := ReadSysctl(s.Key)
	if errors.Is(err, os.ErrNotExist) {
		if s.Optional {
			return nil
		}
		return fmt.Errorf("kernel has no %s: it needs CONFIG_MPTCP (see `synbond doctor`)", s.Name())
	}
	if err != nil || old == s.Value {
		return err
	}
	if err := j.record(func() { j.Sysctls[s.Key], j.Set[s.Key] = old, s.Value }); err != nil {
		return err
	}
	if err := writeSysctl(s.Key, s.Value); err != nil {
		return fmt.Errorf("set %s to %s: %w; it takes root's rights over this network namespace and a writable /proc/sys",
			s.Name(), s.Value, err)
	}
	return nil
}

// Name returns the name of the setting as in sysctl(8).
func (s Sysctl) Name() string { return strings.ReplaceAll(s.Key, "/", ".") }

// Changed returns what others have made of the setting, "" if it has its value.
func (s Sysctl) Changed() (string, error) {
	now, err := ReadSysctl(s.Key)
	if errors.Is(err, os.ErrNotExist) && s.Optional || err == nil && now == s.Value {
		return "", nil
	}
	return fmt.Sprintf("set to %s instead of %s", now, s.Value), err
}

// Lowered returns what others have made of [ReceiveBuffer] or [SendBuffer], "" if its values
// are at least these.
func Lowered(key string, least [3]int) (string, error) {
	sizes, err := ReadSizes(key)
	for i := range sizes {
		if sizes[i] < least[i] {
			return fmt.Sprintf("lowered to %d %d %d", sizes[0], sizes[1], sizes[2]), err
		}
	}
	return "", err
}
