package paths

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	cgroups "github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Window lets subflows start fast and go on evenly.
//
// It gives them a larger initial congestion window than the kernel's 10 segments
// (RFC 6928): a path with a long round trip would take many of them to become as
// fast as its line. A connection's further subflows, which come when there is much
// to send, begin with a share of what the last ones between their two addresses came
// to (RFC 9040, section 3). After the first round trip subflows are paced, unless
// that was too short for an access line: bursts overflow the buffers of a line long
// before it is full.
//
// Linux has no socket options for that which MPTCP takes, and routes, which could
// do the first, are not ours to change. So a BPF program of type sock_ops does it,
// for all MPTCP subflows in the network namespace that sockets of this process's
// cgroup open or accept. The kernel removes it with the process, however that ends.
type Window struct {
	initial  int
	learnt   *ebpf.Map // windows in segments, u32, by between
	attached *cgroups.RawLink
}

// learntPairs of addresses are remembered, of which a HAG has one per path and CPE.
const learntPairs = 1 << 12

// between is the two addresses of subflows, an IPv4 one in the first four bytes.
type between struct{ local, remote [16]byte }

// OpenWindow sets the initial window of subflows, in segments: of further ones until
// it has learnt better. It takes
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
	learnt, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "synbond_window", Type: ebpf.LRUHash, MaxEntries: learntPairs,
		KeySize: uint32(unsafe.Sizeof(between{})), ValueSize: 4,
	})
	if err != nil {
		return nil, explain("create BPF map", err)
	}
	w := &Window{initial: segments, learnt: learnt}
	if w.attached, err = w.attach(cookie, first); err != nil {
		return nil, errors.Join(err, learnt.Close())
	}
	return w, nil
}

func (w *Window) attach(netns uint64, first int16) (*cgroups.RawLink, error) {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "synbond_window", Type: ebpf.SockOps, AttachType: ebpf.AttachCGroupSockOps,
		License:      "GPL", // as bpf_skc_to_mptcp_sock wants it
		Instructions: windowProgram{netns: netns, first: first, learnt: w.learnt.FD(), initial: int32(w.initial)}.instructions(),
	})
	if err != nil {
		return nil, explain("load BPF program", err)
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
	return attached, nil
}

// explain wraps an error of the BPF library, which guesses at another cause.
func explain(what string, err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%s: %w; it takes root of the initial user namespace", what, unix.EPERM)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Close leaves subflows to come with the kernel's initial window.
func (w *Window) Close() error { return errors.Join(w.attached.Close(), w.learnt.Close()) }

// Further returns the window, in segments, with which a further subflow between
// these addresses would begin.
func (w *Window) Further(local, remote netip.Addr) int {
	var at between
	copy(at.local[:], local.AsSlice())
	copy(at.remote[:], remote.AsSlice())
	var segments uint32
	if w.learnt.Lookup(at, &segments) != nil {
		return w.initial // nothing is learnt
	}
	return int(segments)
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
