// Package paths is synbond's MPTCP path manager: it decides which subflows a
// connection gets, and tells the kernel so over generic netlink.
//
// On a CPE a [Manager] drives the kernel's userspace path manager. The box
// tracks the token of each connection that it relays, the kernel reports that
// the connection is established, and once both are known the manager opens one
// subflow per further path, from that path's own address to a join address of
// the HAG:
//
//	Track(token) ─────────┐
//	                      ├──→ SUBFLOW_CREATE per further path
//	event ESTABLISHED ────┘
//
// On a HAG the kernel accepts the joins: an in-kernel endpoint per join address
// ([PM.AddEndpoint]) makes it open the port and remember that it was announced.
// A TPROXY listener cannot take joins, as the kernel compares the ports.
//
// Source: RFC 8684, sections 3.2 and 3.4; uapi linux/mptcp.h and
// linux/mptcp_pm.h; Documentation/netlink/specs/mptcp_pm.yaml.
package paths
