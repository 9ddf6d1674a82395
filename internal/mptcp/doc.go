// Package mptcp is the kernel's MPTCP by generic netlink: subflows, endpoints,
// events; and the initial window of subflows by BPF.
//
// A [Window] attaches a sock_ops program (bpf/window.bpf.c) to the cgroup of this
// process. The program sets the initial congestion window of each subflow in the
// network namespace, paces subflows after their first round trip, and learns the
// window of further subflows. `go generate` compiles it by clang and bpf2go; the
// offset of a kernel structure's member comes from the running kernel's type
// information (CO-RE).
//
// Source: RFC 6928 (initial window), RFC 9040, section 3 (temporal sharing);
// uapi linux/bpf.h; net/mptcp/protocol.h, struct mptcp_sock.
package mptcp
