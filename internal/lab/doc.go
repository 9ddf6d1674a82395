// Package lab builds access networks inside one process: hosts in anonymous
// network namespaces, joined by links with a rate, a delay and losses.
//
//	client ── cpe ══ line ══ hag ── server
//	           ╚════ line ════╝
//
// A [Host] is an OS thread that lives in a namespace of its own. Sockets made
// by functions which run on that thread stay in the namespace wherever they are
// used later. A [Line] is one more such host, an IP router between two others:
//
//	veth ─ forward hook ─ NFQUEUE (the delay, the losses) ─ forward hook (silence) ─ tbf (the rate) ─ veth
//
// [Build] makes the network above, [OpenTap] watches the handshakes on one of
// its interfaces, and [ServeTraffic] with [Request.Run] move verified bytes
// through it. [Scenario.Run] plays a scenario on it, with both boxes: the steps of
// its parts are tables, and what the lines carry meanwhile is a [Timeline]. [Reexec]
// and [Main] give ordinary users the privileges for all this, in a user namespace.
//
// Invariants: nothing outside the lab's own namespaces is changed, no program
// is started, and nothing outlives the process, however it ends: namespaces
// have no name in the file system, and children of a host die with its thread.
//
// Sources: namespaces(7), network_namespaces(7), user_namespaces(7), packet(7),
// uapi linux/netfilter/xt_NFQUEUE.h, net/sched/sch_tbf.c.
package lab
