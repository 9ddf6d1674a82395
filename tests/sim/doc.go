// Package sim runs the core of two boxes in a simulated network: one goroutine, one
// random seed, no kernel. What decides is [core.Core] itself, the code that ships.
//
//	client ── lan ── CPE ══ dsl ══ HAG ── wan ── server
//	                  ╚════ lte ════╝
//
// The kernels of all four are modelled by package sim: TCP with retransmissions, half
// open and established connections, challenge ACKs and resets (stack.go); a queue that
// holds SYNs, a relay that dials and pairs (box.go). Sequence numbers are reduced to
// the initial ones: a segment belongs to a connection if it bears both of them.
//
// While a run lasts, packets are lost, repeated and reordered, paths go down and come
// back, hosts reset whatever they like, ports are used again at once, the queue
// overflows, tables are full, and boxes die and start again (world.go). All that the
// run does follows from its seed, so that a run that fails can be repeated, and tells
// its story:
//
//	go test ./tests/sim -sim.seed 4711 -v
//
// Invariants, checked at every step (check.go):
//   - every packet that is queued gets exactly one verdict, in time;
//   - no client hears of its connection what its server, or a router, has not said;
//   - when the faults are over and the clients have gone, every flow and every socket is
//     over, nothing is held, and a new connection is relayed by both boxes.
package sim
