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
// In some runs a middlebox on the first path drops or resets SYNs with MP_CAPABLE, or strips
// them, or the server's packets go around the HAG: all the time, or until the faults are over.
//
// While a run lasts, packets are lost, repeated and reordered, paths go down and come
// back or are only reported to, neighbours fail, hosts reset whatever they like, ports
// are used again at once, the queue overflows, tables are full, dials find no descriptor,
// policies are replaced, and boxes die and start again (play.go, world.go). The events of
// a box's kernel come late and in another order, as from several goroutines. All that
// the run does follows from its seed, so that a run that fails can be repeated, and
// tells its story:
//
//	go test ./tests/sim -sim.seed 4711 -v
//
// Invariants (check.go). At every step:
//   - every packet that is queued gets exactly one verdict, in time;
//   - no client hears of its connection what its server, or a router, has not said;
//   - a client without MPTCP gets no MP_CAPABLE, unless a box died or missed a packet;
//   - a multipath leg is tracked before it can carry anything.
//
// Every five seconds:
//   - no flow waits longer than its time;
//   - the core remembers a handshake for each flow that is half-open, and no others.
//
// When the faults are over and the clients have gone:
//   - every flow and every socket is over, nothing is held, tracked or remembered;
//   - a new client hears what its server says, and both boxes relay what they should.
package sim
