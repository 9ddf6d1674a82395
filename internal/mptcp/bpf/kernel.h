/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The few declarations of the kernel that the programs use, in place of a vmlinux.h of
 * all types.
 *
 * A type marked CORE is internal to the kernel. Its declaration holds only the members
 * in use: the loader takes their offsets from the type information (BTF) of the running
 * kernel. Everything else is uapi, with fixed numbers and layout (linux/bpf.h,
 * asm-generic/socket.h).
 */
#ifndef KERNEL_H
#define KERNEL_H

typedef unsigned char __u8;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;

#define SEC(name) __attribute__((section(name), used))
#define CORE __attribute__((preserve_access_index))

/* Members of a map's definition, as the loader reads them from BTF. */
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name

#define BPF_MAP_TYPE_LRU_HASH 9
#define BPF_MAP_TYPE_SK_STORAGE 24
#define BPF_F_NO_PREALLOC 1
#define BPF_ANY 0

/* Events by which the kernel calls a sock_ops program. */
enum {
	BPF_SOCK_OPS_TCP_CONNECT_CB = 3,
	BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB = 4,
	BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB = 5,
	BPF_SOCK_OPS_STATE_CB = 10,
	BPF_SOCK_OPS_RTT_CB = 12,
};

/* Flags of a socket that ask for further events. */
enum {
	BPF_SOCK_OPS_STATE_CB_FLAG = 1 << 2,
	BPF_SOCK_OPS_RTT_CB_FLAG = 1 << 3,
};

#define AF_INET 2
#define SOL_SOCKET 1
#define SO_MAX_PACING_RATE 47
#define SOL_TCP 6
#define TCP_MAXSEG 2
#define TCP_BPF_IW 1001

struct bpf_sock;

/* The context of a sock_ops program. Addresses and remote_port are in network byte order. */
struct bpf_sock_ops {
	__u32 op;
	union {
		__u32 args[4];
		__u32 reply;
		__u32 replylong[4];
	};
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port;
	__u32 local_port;
	__u32 is_fullsock;
	__u32 snd_cwnd; /* segments */
	__u32 srtt_us;	/* 8 times the smoothed round-trip time, in µs */
	__u32 bpf_sock_ops_cb_flags;
	__u32 state;
	__u32 rtt_min;	    /* µs */
	__u32 snd_ssthresh; /* segments */
	__u32 rcv_nxt;
	__u32 snd_nxt;
	__u32 snd_una;
	__u32 mss_cache;
	__u32 ecn_flags;
	__u32 rate_delivered;
	__u32 rate_interval_us;
	__u32 packets_out;
	__u32 retrans_out;
	__u32 total_retrans;
	__u32 segs_in;
	__u32 data_segs_in;
	__u32 segs_out;
	__u32 data_segs_out;
	__u32 lost_out;
	__u32 sacked_out;
	__u32 sk_txhash;
	__u64 bytes_received;
	__u64 bytes_acked;
	union {
		struct bpf_sock *sk;
		__u64 : 64;
	} __attribute__((aligned(8)));
};

struct sock;

/* net/mptcp/protocol.h */
struct mptcp_sock {
	struct sock *first; /* the connection's first subflow */
} CORE;

/* Helper functions, by their numbers in enum bpf_func_id. */
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static long (*bpf_setsockopt)(void *ctx, int level, int option, void *value, int length) = (void *)49;
static long (*bpf_sock_ops_cb_flags_set)(struct bpf_sock_ops *ctx, int flags) = (void *)59;
static void *(*bpf_sk_storage_get)(void *map, void *sk, void *value, __u64 flags) = (void *)107;
static __u64 (*bpf_get_netns_cookie)(void *ctx) = (void *)122;
static struct mptcp_sock *(*bpf_skc_to_mptcp_sock)(void *sk) = (void *)196;

#endif
