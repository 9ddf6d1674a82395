// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// A sock_ops program that sets the initial congestion window of MPTCP subflows, paces
// them after their first round trip, and learns the window of further subflows.
//
// The kernel calls the program with the events of the TCP connections that belong to a
// cgroup. It acts on the subflows of one network namespace and ignores everything else.
// It always returns 1: the kernel ignores the value for these events.
#include "kernel.h"

// The helper bpf_skc_to_mptcp_sock is for programs with a licence compatible with the GPL.
char __license[] SEC("license") = "Dual MIT/GPL";

// netns is the cookie of the network namespace (SO_NETNS_COOKIE). The loader sets it.
const volatile __u64 netns;

// initial is the initial window, in segments. The loader sets it.
const volatile __u32 initial;

enum {
	learn_bytes = 1 << 20, // acknowledged bytes from which on a subflow teaches others

	// A further subflow begins with this part of a learnt window, which also filled
	// the buffer of the access line, and doubles with each round trip.
	learn_divisor = 3,
	learn_min = 10,	       // segments
	learn_max_factor = 4,  // times the configured window
	pace_min_rtt = 2000,   // µs; on shorter paths, timers would cost more than bursts
};

// no_threshold is the slow start threshold before the first loss
// (TCP_INFINITE_SSTHRESH).
#define no_threshold 0x7fffffffU

// pace_limit is the greatest pacing rate below "no limit" (bytes/s, 32 bits): TCP paces
// a socket that has a limit, at a rate from its congestion window and round trip.
#define pace_limit 0xfffffffeU

// address_pair is the key of a learnt window. An IPv4 address takes the first four
// bytes; the others are zero. All in network byte order.
struct address_pair {
	__u8 local[16];
	__u8 remote[16];
};

// synbond_windows holds the learnt windows of further subflows, in segments. A HAG has
// one for each path of each CPE; the kernel evicts the least recently used.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 12);
	__type(key, struct address_pair);
	__type(value, __u32);
} synbond_windows SEC(".maps");

// words is an address pair in the units in which the context holds addresses.
union words {
	struct address_pair pair;
	struct {
		__u32 local[4];
		__u32 remote[4];
	};
};

static inline __attribute__((always_inline)) void addresses(struct bpf_sock_ops *ctx, union words *w)
{
	__builtin_memset(w, 0, sizeof(*w));
	if (ctx->family == AF_INET) {
		w->local[0] = ctx->local_ip4;
		w->remote[0] = ctx->remote_ip4;
		return;
	}
	// The verifier allows access to the context at constant offsets only: no loop.
	w->local[0] = ctx->local_ip6[0];
	w->local[1] = ctx->local_ip6[1];
	w->local[2] = ctx->local_ip6[2];
	w->local[3] = ctx->local_ip6[3];
	w->remote[0] = ctx->remote_ip6[0];
	w->remote[1] = ctx->remote_ip6[1];
	w->remote[2] = ctx->remote_ip6[2];
	w->remote[3] = ctx->remote_ip6[3];
}

// begin sets the initial window of a subflow: the configured one, or for a further
// subflow what was learnt between its addresses.
//
// It runs when the SYN is sent and once more when the subflow is established: MPTCP's
// scheduler takes the rate of a subflow from its window at the SYN+ACK, and TCP resets
// the window after that.
static inline __attribute__((always_inline)) void begin(struct bpf_sock_ops *ctx, struct mptcp_sock *connection)
{
	__u32 window = initial, events = BPF_SOCK_OPS_RTT_CB_FLAG;

	if ((void *)ctx->sk != (void *)connection->first) {
		union words w;
		__u32 *learnt;

		events |= BPF_SOCK_OPS_STATE_CB_FLAG;
		addresses(ctx, &w);
		learnt = bpf_map_lookup_elem(&synbond_windows, &w.pair);
		if (learnt)
			window = *learnt;
	}
	bpf_setsockopt(ctx, SOL_TCP, TCP_BPF_IW, &window, sizeof(window));
	if (ctx->op != BPF_SOCK_OPS_TCP_CONNECT_CB)
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | events);
}

// learn takes the window of later subflows from a further subflow that ends. A subflow
// without losses, or short of data to send, can only raise it.
static inline __attribute__((always_inline)) void learn(struct bpf_sock_ops *ctx)
{
	__u32 window, threshold, max = learn_max_factor * initial;
	union words w;

	if (ctx->bytes_acked < learn_bytes)
		return;
	window = ctx->snd_cwnd;
	threshold = ctx->snd_ssthresh;
	if (threshold < no_threshold && window < threshold)
		window = threshold; // the window of an idle subflow has shrunk
	window /= learn_divisor;
	if (window < learn_min)
		window = learn_min;
	if (window > max)
		window = max;

	addresses(ctx, &w);
	if (threshold >= no_threshold) {
		__u32 *learnt = bpf_map_lookup_elem(&synbond_windows, &w.pair);

		if ((learnt ? *learnt : initial) >= window)
			return;
	}
	bpf_map_update_elem(&synbond_windows, &w.pair, &window, BPF_ANY);
}

// pace begins to pace a subflow after its first round trip, unless the path is too
// short for an access line, and stops listening for round trips.
static inline __attribute__((always_inline)) void pace(struct bpf_sock_ops *ctx)
{
	if (ctx->rtt_min >= pace_min_rtt) {
		__u32 rate = pace_limit;

		bpf_setsockopt(ctx, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof(rate));
	}
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_RTT_CB_FLAG);
}

SEC("sockops")
int synbond_window(struct bpf_sock_ops *ctx)
{
	struct mptcp_sock *connection;
	__u32 op = ctx->op;

	if (op != BPF_SOCK_OPS_TCP_CONNECT_CB && op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB &&
	    op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB && op != BPF_SOCK_OPS_STATE_CB && op != BPF_SOCK_OPS_RTT_CB)
		return 1;
	if (bpf_get_netns_cookie(ctx) != netns || !ctx->sk)
		return 1;
	connection = bpf_skc_to_mptcp_sock(ctx->sk);
	if (!connection)
		return 1;

	if (op == BPF_SOCK_OPS_STATE_CB)
		learn(ctx);
	else if (op == BPF_SOCK_OPS_RTT_CB)
		pace(ctx);
	else
		begin(ctx, connection);
	return 1;
}
