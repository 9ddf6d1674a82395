// Package paths is synbond's MPTCP path manager: it decides which subflows a
// connection gets, and tells the kernel so over generic netlink.
//
// On a CPE a [Manager] drives the kernel's userspace path manager. There is one
// wanted use per path, and the manager asks the kernel for what each connection
// has not yet, or has no more use for. It hears by events what became of that:
//
//	Monitor ─ Status ─→ Steering ─ Use per path ─→ Manager.Want ─┐
//	box ─ token, terms ──────────────────────────→ Manager.Track ┼─→ Batch ─→ kernel
//	kernel ─ established, subflow opened, closed ─→ Events ──────┘  SUBFLOW_CREATE,
//	                                                                SET_FLAGS, SUBFLOW_DESTROY
//
// A subflow is opened from its path's own address to a join address of the HAG.
// One that fails, or that the kernel or the peer closes, is opened again, later
// each time; and what thousands of connections want at once is paced. A
// connection is never left without a subflow that it has.
//
// On a HAG the kernel accepts the joins: an in-kernel endpoint per join address
// ([PM.AddEndpoint]) makes it open the port and remember that it was announced.
// A TPROXY listener cannot take joins, as the kernel compares the ports.
//
// Whether a path is up a [Monitor] knows at the CPE, from the kernel's word of its
// link, and from probes that the HAG's [Answerer] answers: UDP datagrams to the
// join address and port. They also tell the HAG which paths are down. Both boxes
// then end the subflows there, since the kernel sends at once by the others what
// a subflow that has ended had not delivered, while it waits for one that is silent.
//
// Source: RFC 8684, sections 3.2 and 3.4; uapi linux/mptcp.h and
// linux/mptcp_pm.h; Documentation/netlink/specs/mptcp_pm.yaml.
package paths
