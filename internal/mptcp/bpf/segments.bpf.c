// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// A sock_ops program that limits the segments of MPTCP subflows, for kernels whose MPTCP
// sockets refuse TCP_MAXSEG (before Linux 6.17).
//
// The kernel calls the program with the events of the TCP connections that belong to a
// cgroup. It acts before the SYN of a subflow is built, so that the limit is in its MSS
// option, too. It always returns 1: the kernel ignores the value for this event.
#include "kernel.h"

// The helper bpf_skc_to_mptcp_sock is for programs with a licence compatible with the GPL.
char __license[] SEC("license") = "Dual MIT/GPL";

// synbond_segments holds the largest segment of a connection's subflows, in bytes, by
// MPTCP socket. The kernel removes an entry with its socket.
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __s32);
	__type(value, __u32);
} synbond_segments SEC(".maps");

SEC("sockops")
int synbond_limit(struct bpf_sock_ops *ctx)
{
	struct mptcp_sock *connection;
	__u32 *limit;

	if (ctx->op != BPF_SOCK_OPS_TCP_CONNECT_CB || !ctx->sk)
		return 1;
	connection = bpf_skc_to_mptcp_sock(ctx->sk);
	if (!connection)
		return 1;
	limit = bpf_sk_storage_get(&synbond_segments, connection, (void *)0, 0);
	if (limit)
		bpf_setsockopt(ctx, SOL_TCP, TCP_MAXSEG, limit, sizeof(*limit));
	return 1;
}
