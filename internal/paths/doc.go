// Package paths decides about the paths between CPE and HAG: whether each is up,
// what it is to be used for, and which subflows connections get on it. It makes no
// system call and has no clock: callers pass in the time, the counters of interfaces
// and the kernel's reports, and carry out what the package decides. Only [OpenUsage]
// and [Usage.Save] use a file.
//
// On a CPE a decision goes this way:
//
//	probe.Monitor ─ probes, replies, counters ─→ Health ─ Status ─→ Steering ─┐
//	                                                      DesiredState of each path
//	box ─ token, SubflowPolicy ──────────────────────────────────────→ Planner ┤
//	kernel ─ established, subflow opened, closed ────────────────────→ Planner ┴─ Requests ─→ mptcp.Manager
//
// [Steering] measures rates ([RateMeter]), counts against quotas ([Usage]) and
// applies the modes of the paths ([Policy]). A [Planner] paces what thousands of
// connections want at once, and never leaves a connection without a subflow that it
// has. [Dispensable] chooses which subflows of a failed path may be ended.
//
// A [Set] knows the path of a subflow. It reads the machine through a [Machine],
// which package host implements.
//
// Source: RFC 8684, sections 3.2 and 3.4; RFC 6298.
package paths
