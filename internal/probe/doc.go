// Package probe finds out which paths between CPE and HAG work. A CPE's [Monitor]
// sends probes over each path, a HAG's [Responder] replies:
//
//	Monitor ── probe: sequence, cookie, which paths are down ──→ Responder
//	        ←─ reply: sequence, cookie, instance ──────────────
//
// Probes are UDP datagrams to the join address and port of the path. Package paths
// decides by the replies, the state of the links and the interfaces' packet counters
// whether a path is up; the monitor only sends, receives and publishes.
//
// Probes also report to the HAG which paths are down, so that both boxes end the
// subflows there: the kernel sends at once by other subflows what a subflow that has
// ended had not delivered, but waits for one that is silent. The HAG acts on a report
// only if it carries the secret (if there is one) and comes from an address that is
// confirmed: the CPE has returned the cookie that was sent there.
//
// Now and then a probe is an extended one: its reply also says from which address and
// port the HAG saw it come, which differ behind a NAT, and which processes of the HAG still
// carry flows. After a restart of the HAG the CPE asks at once, and resets the flows of
// processes that are gone.
//
// The format of the datagrams is in message.go. A datagram that is malformed is
// ignored; a probe of another version or with another secret gets a refusal.
package probe
