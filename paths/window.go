package paths

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	cgroups "github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Window gives subflows a larger initial congestion window than the kernel's 10
// segments (RFC 6928): a path with a long round trip would take many of them to
// become as fast as its line. Linux has no socket option for that, routes have
// one that is not ours to set. So a BPF program of type sock_ops does it, for all
// MPTCP subflows in the network namespace that sockets of this process's cgroup
// open or accept. The kernel removes it with the process, however that ends.
type Window struct{ attached *cgroups.RawLink }

// What bpf.h calls BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB
// and TCP_BPF_IW, and where the socket is in struct bpf_sock_ops.
const (
	activeEstablished  = 4
	passiveEstablished = 5
	tcpBPFIW           = 1001
	opsSocket          = 184
)

// OpenWindow sets the initial window, in segments. It takes CAP_BPF, CAP_NET_ADMIN,
// CAP_PERFMON and CAP_SYS_ADMIN of the initial user namespace, and a kernel with
// CONFIG_CGROUP_BPF and CONFIG_DEBUG_INFO_BTF.
func OpenWindow(segments int) (*Window, error) {
	cookie, err := netnsCookie()
	if err != nil {
		return nil, err
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "synbond_window", Type: ebpf.SockOps, AttachType: ebpf.AttachCGroupSockOps,
		License:      "GPL", // as bpf_skc_to_mptcp_sock wants it
		Instructions: windowProgram(cookie, segments),
	})
	if errors.Is(err, unix.EPERM) { // the library guesses at another cause
		return nil, fmt.Errorf("load BPF program: %w; it takes root of the initial user namespace", unix.EPERM)
	}
	if err != nil {
		return nil, fmt.Errorf("load BPF program: %w", err)
	}
	defer program.Close()
	cgroup, err := ownCgroup()
	if err != nil {
		return nil, err
	}
	defer unix.Close(cgroup)
	attached, err := cgroups.AttachRawLink(cgroups.RawLinkOptions{Target: cgroup, Program: program, Attach: ebpf.AttachCGroupSockOps})
	if err != nil {
		return nil, fmt.Errorf("attach BPF program: %w", err)
	}
	return &Window{attached}, nil
}

// Close leaves subflows to come with the kernel's initial window.
func (w *Window) Close() error { return w.attached.Close() }

// windowProgram is called with each change of a TCP connection. It acts on those
// that are just established, are of this network namespace, and are subflows.
func windowProgram(netns uint64, segments int) asm.Instructions {
	const (
		act  = "act"
		exit = "exit"
		ops  = asm.R6
	)
	return asm.Instructions{
		asm.Mov.Reg(ops, asm.R1),
		asm.LoadMem(asm.R2, ops, 0, asm.Word),
		asm.JEq.Imm(asm.R2, activeEstablished, act),
		asm.JNE.Imm(asm.R2, passiveEstablished, exit),

		asm.Mov.Reg(asm.R1, ops).WithSymbol(act),
		asm.FnGetNetnsCookie.Call(),
		asm.LoadImm(asm.R1, int64(netns), asm.DWord),
		asm.JNE.Reg(asm.R0, asm.R1, exit),

		asm.LoadMem(asm.R1, ops, opsSocket, asm.DWord),
		asm.JEq.Imm(asm.R1, 0, exit),
		asm.FnSkcToMptcpSock.Call(),
		asm.JEq.Imm(asm.R0, 0, exit),

		asm.StoreImm(asm.RFP, -4, int64(segments), asm.Word),
		asm.Mov.Reg(asm.R1, ops),
		asm.Mov.Imm(asm.R2, unix.SOL_TCP),
		asm.Mov.Imm(asm.R3, tcpBPFIW),
		asm.Mov.Reg(asm.R4, asm.RFP),
		asm.Add.Imm(asm.R4, -4),
		asm.Mov.Imm(asm.R5, 4),
		asm.FnSetsockopt.Call(),

		asm.Mov.Imm(asm.R0, 1).WithSymbol(exit),
		asm.Return(),
	}
}

// netnsCookie is the number by which the kernel tells this network namespace from others.
func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return cookie, os.NewSyscallError("getsockopt SO_NETNS_COOKIE", err)
}

// ownCgroup opens the folder of this process in the cgroup2 hierarchy. It does
// without a mount point: `ip netns exec`, for one, hides what is below /sys.
func ownCgroup() (int, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return -1, fmt.Errorf("find own cgroup: %w", err)
	}
	own := ""
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			own = strings.TrimSpace(path)
		}
	}
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

// cgroupRoot opens the root of the cgroup2 hierarchy, which is the one of the
// cgroup namespace, as the path of this process is.
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
