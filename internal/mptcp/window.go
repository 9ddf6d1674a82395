//go:build linux

package mptcp

import (
	"errors"
	"net/netip"

	"github.com/cilium/ebpf"
)

// Window gives subflows a larger initial congestion window than the kernel's 10
// segments (RFC 6928), and paces them.
//
// On a path with a long round trip, growth from 10 segments to the rate of the access
// line takes many round trips. A connection's further subflows open when there is much
// to send; each begins with a share of the window that the last ones between the same
// two addresses reached (RFC 9040, section 3). After the first round trip a subflow is
// paced, unless the round trip is too short for an access line: bursts overflow the
// buffer of a line long before the line is full.
//
// Linux has no socket options for this that MPTCP accepts. Routes can set the window,
// but they belong to the operator. So a BPF program of type sock_ops does it, for all
// MPTCP subflows in the network namespace that sockets of this process's cgroup open
// or accept.
type Window struct {
	*sockOps
	initial int       // segments
	learnt  *ebpf.Map // windows in segments (u32) by windowAddressPair
}

// OpenWindow sets the initial window of subflows, in segments. A further subflow begins
// with it until the program has learnt one for its addresses.
//
// It takes CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN of the initial user
// namespace, and a kernel with CONFIG_CGROUP_BPF and CONFIG_DEBUG_INFO_BTF.
func OpenWindow(segments int) (*Window, error) {
	spec, err := windowSpec(segments)
	if err != nil {
		return nil, err
	}
	var loaded windowObjects
	if err := spec.LoadAndAssign(&loaded, nil); err != nil {
		return nil, explain("load BPF program", err)
	}
	w := &Window{initial: segments, learnt: loaded.SynbondWindows}
	if w.sockOps, err = attach(loaded.SynbondWindow); err != nil {
		return nil, errors.Join(err, w.learnt.Close())
	}
	return w, nil
}

// windowSpec returns the program with its parameters: the initial window in segments,
// and this network namespace.
func windowSpec(segments int) (*ebpf.CollectionSpec, error) {
	netns, err := netnsCookie()
	if err != nil {
		return nil, err
	}
	spec, err := loadWindow()
	if err != nil {
		return nil, err
	}
	return spec, errors.Join(
		spec.Variables[windowVarNetns].Set(netns),
		spec.Variables[windowVarInitial].Set(uint32(segments)),
	)
}

// Close removes the program: later subflows begin with the kernel's initial window.
func (w *Window) Close() error { return errors.Join(w.close(), w.learnt.Close()) }

// Further returns the initial window, in segments, of a further subflow between these
// addresses.
func (w *Window) Further(local, remote netip.Addr) int {
	var pair windowAddressPair
	copy(pair.Local[:], local.AsSlice())
	copy(pair.Remote[:], remote.AsSlice())
	var segments uint32
	if w.learnt.Lookup(pair, &segments) != nil {
		return w.initial // nothing learnt
	}
	return int(segments)
}
