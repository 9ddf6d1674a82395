package paths

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	cgroups "github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Window lets subflows start fast and go on evenly.
//
// It gives them a larger initial congestion window than the kernel's 10 segments
// (RFC 6928): a path with a long round trip would take many of them to become as
// fast as its line. Further subflows get twice as many as a connection's first one:
// they come when there is much to send. After the first round trip they are paced,
// unless that was too short for an access line: bursts overflow the buffers of a line
// long before it is full.
//
// Linux has no socket options for that which MPTCP takes, and routes, which could
// do the first, are not ours to change. So a BPF program of type sock_ops does it,
// for all MPTCP subflows in the network namespace that sockets of this process's
// cgroup open or accept. The kernel removes it with the process, however that ends.
type Window struct{ attached *cgroups.RawLink }

// Of uapi linux/bpf.h: BPF_SOCK_OPS_*_CB, by which a sock_ops program is called, the
// flag that asks for the last of them, TCP_BPF_IW, and where things are in struct
// bpf_sock_ops.
const (
	connecting         = 3
	activeEstablished  = 4
	passiveEstablished = 5
	roundTrip          = 12
	wantRoundTrip      = 1 << 3
	tcpBPFIW           = 1001
	opsFlags           = 84
	opsLeastRTT        = 92 // µs
	opsSocket          = 184
)

// Further is how many times the initial window of a first subflow a further one gets.
const Further = 2

// pacedTo is how fast a paced subflow may be at most, in bytes/s: all but the
// largest number of 32 bits, which is for none. TCP paces what has such a limit by
// its congestion window and its round trip.
const pacedTo = -2

// pacedFrom is the round trip from which on subflows are paced, in µs: on shorter
// paths, which are faster than a machine, timers would cost more than bursts.
const pacedFrom = 2000

// OpenWindow sets the initial window of first subflows, in segments. It takes
// CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN of the initial user
// namespace, and a kernel with CONFIG_CGROUP_BPF and CONFIG_DEBUG_INFO_BTF.
func OpenWindow(segments int) (*Window, error) {
	cookie, err := netnsCookie()
	if err != nil {
		return nil, err
	}
	first, err := firstOffset()
	if err != nil {
		return nil, err
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "synbond_window", Type: ebpf.SockOps, AttachType: ebpf.AttachCGroupSockOps,
		License:      "GPL", // as bpf_skc_to_mptcp_sock wants it
		Instructions: windowProgram(cookie, first, segments),
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

// windowProgram is called with changes of TCP connections. It acts on those of this
// network namespace that are subflows. Where first is in struct mptcp_sock there is
// the connection's first one.
func windowProgram(netns uint64, first int16, segments int) asm.Instructions {
	const (
		act     = "act"
		isFirst = "first"
		pace    = "pace"
		done    = "done"
		exit    = "exit"
		ops     = asm.R6
		op      = asm.R7
		number  = asm.R8
	)
	set := func(level, option int32) asm.Instructions {
		return asm.Instructions{
			asm.StoreMem(asm.RFP, -4, number, asm.Word),
			asm.Mov.Reg(asm.R1, ops),
			asm.Mov.Imm(asm.R2, level),
			asm.Mov.Imm(asm.R3, option),
			asm.Mov.Reg(asm.R4, asm.RFP),
			asm.Add.Imm(asm.R4, -4),
			asm.Mov.Imm(asm.R5, 4),
			asm.FnSetsockopt.Call(),
		}
	}
	return slices.Concat(
		asm.Instructions{
			asm.Mov.Reg(ops, asm.R1),
			asm.LoadMem(op, ops, 0, asm.Word),
			asm.JEq.Imm(op, connecting, act),
			asm.JEq.Imm(op, activeEstablished, act),
			asm.JEq.Imm(op, passiveEstablished, act),
			asm.JNE.Imm(op, roundTrip, exit),

			asm.Mov.Reg(asm.R1, ops).WithSymbol(act),
			asm.FnGetNetnsCookie.Call(),
			asm.LoadImm(asm.R1, int64(netns), asm.DWord),
			asm.JNE.Reg(asm.R0, asm.R1, exit),
			asm.LoadMem(asm.R1, ops, opsSocket, asm.DWord),
			asm.JEq.Imm(asm.R1, 0, exit),
			asm.FnSkcToMptcpSock.Call(),
			asm.JEq.Imm(asm.R0, 0, exit),
			asm.JEq.Imm(op, roundTrip, pace),

			asm.Mov.Imm(number, int32(segments)),
			asm.LoadMem(asm.R1, ops, opsSocket, asm.DWord),
			asm.LoadMem(asm.R2, asm.R0, first, asm.DWord),
			asm.JEq.Reg(asm.R1, asm.R2, isFirst),
			asm.Mul.Imm(number, Further),
		},
		labelled(isFirst, set(unix.SOL_TCP, tcpBPFIW)),
		asm.Instructions{
			// The rate by which MPTCP's scheduler judges a subflow comes from the window
			// that it has when its SYN is answered. After that TCP sets the window anew.
			asm.JEq.Imm(op, connecting, exit),
			asm.LoadMem(asm.R2, ops, opsFlags, asm.Word),
			asm.Or.Imm(asm.R2, wantRoundTrip),
			asm.Mov.Reg(asm.R1, ops),
			asm.FnSockOpsCbFlagsSet.Call(),
			asm.Ja.Label(exit),

			asm.LoadMem(asm.R1, ops, opsLeastRTT, asm.Word).WithSymbol(pace),
			asm.JLT.Imm(asm.R1, pacedFrom, done),
			asm.Mov.Imm(number, pacedTo),
		},
		set(unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE),
		asm.Instructions{
			asm.LoadMem(asm.R2, ops, opsFlags, asm.Word).WithSymbol(done),
			asm.And.Imm(asm.R2, ^wantRoundTrip),
			asm.Mov.Reg(asm.R1, ops),
			asm.FnSockOpsCbFlagsSet.Call(),

			asm.Mov.Imm(asm.R0, 1).WithSymbol(exit),
			asm.Return(),
		},
	)
}

// labelled gives instructions a label to jump to.
func labelled(label string, all asm.Instructions) asm.Instructions {
	all[0] = all[0].WithSymbol(label)
	return all
}

// firstOffset is where the member first is in struct mptcp_sock, in bytes, as this
// kernel's type information (BTF) has it.
func firstOffset() (int16, error) {
	types, err := btf.LoadKernelSpec()
	if err != nil {
		return 0, fmt.Errorf("load the kernel's BTF: %w", err)
	}
	var sock *btf.Struct
	if err := types.TypeByName("mptcp_sock", &sock); err != nil {
		return 0, fmt.Errorf("find struct mptcp_sock in the kernel's BTF: %w", err)
	}
	i := slices.IndexFunc(sock.Members, func(m btf.Member) bool { return m.Name == "first" })
	if i < 0 {
		return 0, errors.New("the kernel's struct mptcp_sock has no first")
	}
	return int16(sock.Members[i].Offset.Bytes()), nil
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
