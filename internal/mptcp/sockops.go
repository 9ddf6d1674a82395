//go:build linux

package mptcp

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// sockOps is a program of type sock_ops, attached to this process's cgroup. The kernel
// removes it when the process ends, even by a crash.
type sockOps struct {
	program  *ebpf.Program
	cgroup   int // descriptor of the cgroup to which the program is attached
	attached *link.RawLink
}

// attach makes the kernel call a program for the sockets of this process's cgroup. It
// takes the program over, and closes it if it fails.
func attach(program *ebpf.Program) (*sockOps, error) {
	cgroup, err := ownCgroup()
	if err != nil {
		return nil, errors.Join(err, program.Close())
	}
	s := &sockOps{program: program, cgroup: cgroup}
	if err := s.Mend(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// Mend makes the kernel call the program again.
func (s *sockOps) Mend() error {
	if s.attached != nil {
		_ = s.attached.Close() // it is attached to nothing
	}
	var err error
	s.attached, err = link.AttachRawLink(link.RawLinkOptions{Target: s.cgroup, Program: s.program, Attach: ebpf.AttachCGroupSockOps})
	if err != nil {
		return fmt.Errorf("attach BPF program: %w", err)
	}
	return nil
}

// Detached returns what others have made of the program, "" if the kernel calls it.
func (s *sockOps) Detached() (string, error) {
	info, err := s.program.Info()
	if err != nil {
		return "", err
	}
	own, _ := info.ID()
	there, err := link.QueryPrograms(link.QueryOptions{Target: s.cgroup, Attach: ebpf.AttachCGroupSockOps})
	if err != nil {
		return "", err
	}
	if slices.ContainsFunc(there.Programs, func(p link.AttachedProgram) bool { return p.ID == own }) {
		return "", nil
	}
	return "detached", nil
}

func (s *sockOps) close() error {
	var err error
	if s.attached != nil {
		err = s.attached.Close()
	}
	return errors.Join(err, unix.Close(s.cgroup), s.program.Close())
}

// explain wraps an error of the BPF library. For EPERM the library suggests a memory
// limit, which newer kernels do not have.
func explain(what string, err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%s: %w; it takes root of the initial user namespace", what, unix.EPERM)
	}
	return fmt.Errorf("%s: %w", what, err)
}
