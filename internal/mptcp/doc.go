// Package mptcp speaks to the kernel's MPTCP: by generic netlink to its path manager,
// by sock_diag about its subflows, and by BPF about their initial window and MSS.
//
// On a CPE a [Manager] drives the userspace path manager. It hands the kernel's
// [Events] to a [paths.Planner] and sends the planner's requests in batches:
//
//	box ─ Track, Forget, SetDesired ──→ Planner ─ Requests ─→ Batch ─→ kernel
//	kernel ─ established, opened, closed ─→ Events ─→ Planner     SUBFLOW_CREATE, SET_FLAGS,
//	                                                              SUBFLOW_DESTROY, REMOVE
//
// A subflow is opened from its path's own address to a join address of the HAG.
//
// On a HAG the kernel accepts the joins: an in-kernel endpoint per join address
// ([PM.AddEndpoint]) makes it open the port and remember that it was announced. A
// TPROXY listener cannot take joins, as the kernel compares the ports.
//
// On both, [EndSubflows] ends the subflows on a path that is down.
//
// A [Window] attaches a sock_ops program (bpf/window.bpf.c) to the cgroup of this
// process. The program sets the initial congestion window of each subflow in the
// network namespace, paces subflows after their first round trip, and learns the
// window of further subflows. [Segments] is a second such program (bpf/segments.bpf.c),
// which sets the MSS of a connection's subflows where MPTCP sockets refuse TCP_MAXSEG.
// `go generate` compiles both by clang and bpf2go; the offset of a kernel structure's
// member comes from the running kernel's type information (CO-RE).
//
// Source: RFC 8684; RFC 6928 (initial window), RFC 9040, section 3 (temporal sharing);
// uapi linux/mptcp.h, linux/mptcp_pm.h and linux/bpf.h; net/mptcp/protocol.h, struct
// mptcp_sock; Documentation/netlink/specs/mptcp_pm.yaml.
package mptcp
