// Package netlab builds access networks inside one process: hosts in anonymous
// network namespaces, joined by links with a rate, a delay and losses.
//
//	client ── cpe ══ line ══ hag ── server
//	           ╚════ line ════╝
//
// A [Host] is an OS thread in a namespace of its own. Sockets made by functions
// which run on that thread stay in the namespace wherever they are used later.
// A [Line] is one more such host, an IP router between two others:
//
//	veth ─ forward hook ─ NFQUEUE (the delay, the losses) ─ forward hook (silence) ─ tbf (the rate) ─ veth
//
// [Build] makes the network above. [Network.StartPair] starts a CPE and a HAG on
// it, as processes. [ServeTraffic] with [Request.Run] moves verified bytes through
// it, [Line.RoundTrip] measures a line, and [OpenTap] watches the handshakes on an
// interface. Lines change and fail while they carry traffic: [Line.SetRate],
// [Line.SetDelay], [Line.SetLoss], [Line.Down], [Line.Carrier]. [Reexec] gives
// ordinary users the privileges for all this, in a user namespace. The package
// prints nothing and knows no scenarios.
//
// Invariants: nothing outside the package's own namespaces is changed, no program
// is started except the caller's, and nothing outlives the process, however it
// ends: namespaces have no name in the file system, and children of a host die
// with its thread.
//
// Sources: namespaces(7), network_namespaces(7), user_namespaces(7), packet(7),
// uapi linux/netfilter/xt_NFQUEUE.h, net/sched/sch_tbf.c.
package netlab
