//go:build linux

package mptcp

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Segments limits the segments of MPTCP connections where the kernel refuses TCP_MAXSEG
// on their sockets, as Linux 6.12 does (6.18 accepts it). A BPF program of type sock_ops
// sets the option on each subflow of the connection just before its SYN.
type Segments struct {
	*sockOps
	limits *ebpf.Map // MSS in bytes (u32) by MPTCP socket
}

// TakesSegmentSize returns the kernel's error if it refuses TCP_MAXSEG on MPTCP sockets.
func TakesSegmentSize() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	return os.NewSyscallError("setsockopt TCP_MAXSEG", unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_MAXSEG, 1000))
}

// OpenSegments loads the program. It takes what [OpenWindow] takes.
func OpenSegments() (*Segments, error) {
	var loaded segmentsObjects
	if err := loadSegmentsObjects(&loaded, nil); err != nil {
		return nil, explain("load BPF program", err)
	}
	s := &Segments{limits: loaded.SynbondSegments}
	var err error
	if s.sockOps, err = attach(loaded.SynbondLimit); err != nil {
		return nil, errors.Join(err, s.limits.Close())
	}
	return s, nil
}

// Limit sets the largest segment, in bytes, of an MPTCP socket that is not connected yet,
// as TCP_MAXSEG does on a TCP socket: what it sends, and the MSS option of its SYN.
func (s *Segments) Limit(fd int, bytes uint16) error {
	if err := s.limits.Put(int32(fd), uint32(bytes)); err != nil {
		return fmt.Errorf("limit segments to %d bytes: %w", bytes, err)
	}
	return nil
}

// Close removes the program, for connections to come.
func (s *Segments) Close() error { return errors.Join(s.close(), s.limits.Close()) }
