package core

import (
	"net/netip"
	"time"

	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// Kind tells actions apart.
type Kind uint8

const (
	// Decide gives the verdict on a packet: Action.Decision. A packet with the
	// verdict [Hold] gets another one later.
	Decide Kind = iota
	// Connect begins a dial onward: Action.Dial. Its outcome goes to [Core.DialEnded].
	Connect
	// Resolve asks for the addresses of a name: Action.Name. They go to [Core.Resolved].
	Resolve
	// Abort ends the dial of a flow, or resets its onward leg while that waits for
	// the client.
	Abort
	// Track lets the path manager open further subflows of a flow's multipath leg,
	// as Action.Subflows allows.
	Track
	// Untrack ends what Track has begun.
	Untrack
	// Ask asks whether the client's half-open connection with the box is still there,
	// since the kernel tells nobody that it is not. If it is gone the driver calls
	// [Core.ClientReset].
	Ask
	// Expired tells of a flow that has waited too long, for logs and reports.
	Expired
	// Tell tells people of an obstacle: Action.Notice.
	Tell
	// Wake asks for a [Core.Tick] at Action.At.
	Wake
)

// Action is one thing for the driver of a core to carry out.
type Action struct {
	Kind     Kind
	Flow     state.ID  // of all but Decide, Tell and Wake
	Key      state.Key // of Ask and Expired
	Decision Decision
	Dial     Dial
	Subflows SubflowPolicy
	Notice   *Notice
	Name     string
	At       time.Duration
}

// Dial says where to connect to, from where, and by what SYN.
type Dial struct {
	Client, Server netip.AddrPort
	// Multipath reports whether the onward leg faces the other box, and speaks MPTCP
	// unless it is Plain.
	Multipath, Plain bool
	// OtherPort has the kernel choose the port to dial from: a socket of this machine
	// has the client's.
	OtherPort bool
	// From is the end to dial from; the zero Source is the client.
	From Source
	// Via is the upstream through which the server is dialed; zero without one. Early has all
	// messages sent at once there.
	Via   netip.AddrPort
	Early bool
	// Asked reports whether the client has asked for the server in a preface. Then the
	// kernel chooses the end to dial from.
	Asked bool
	// In and Out are the interfaces by which the client's SYN came in, and by which the
	// router sends it on; Mark is its mark: the dial of a client's address takes the same
	// way. They are zero where From says the way.
	In, Out, Mark uint32
	// Traits go from the client's SYN to the onward one.
	Traits rewrite.Traits
}

// offers reports whether the dial's SYN bears MP_CAPABLE.
func (d *Dial) offers() bool { return d.Multipath && !d.Plain }

// leave gives the dial the end to dial from. Only a dial from the client takes the way
// that the router has chosen for the client.
func (d *Dial) leave(from Source) {
	d.From = from
	if from != (Source{}) {
		d.In, d.Out, d.Mark = 0, 0, 0
	}
}

// Dialed is the end of a dial.
type Dialed struct {
	// Err is nil, or the error of connect(2) or of the calls before it, which wraps a
	// [syscall.Errno].
	Err error
	// MPTCP reports whether the connection speaks MPTCP, and has not fallen back to TCP.
	MPTCP bool
	// Stage says whose Err is, of a dial through an upstream.
	Stage Stage
	// StepByStep reports whether the messages that were sent early may be the cause of Err.
	StepByStep bool
	// Here reports whether the dial ended before anything was sent: this machine refused it.
	Here bool
}

// Stage is the stage in which a dial through an upstream has failed.
type Stage uint8

const (
	NotReached Stage = iota // the upstream did not take the connection
	NotServed               // it took the connection, and does not serve the box
	Answered                // it has answered for the server; without a [syscall.Errno] it cannot serve that
)

// Packet is a packet that a queue holds until it gets its verdict.
type Packet struct {
	ID        uint32     // of the queue
	Side      state.Side // by which it came in
	Interface uint32     // index of the interface by which it came in, for the driver
	Out       uint32     // index of the interface by which the router is to send it on, 0 if unknown
	Path      uint8      // index of the path by which the router is to send it on, 0 for the plain side
	Mark      uint32     // that other programs have given it
	Data      []byte     // from the IP header on
}

// Verdict is the fate of a queued packet.
type Verdict uint8

const (
	Accept  Verdict = iota // goes its ordinary way, untouched
	Rewrite                // goes its ordinary way, as another packet
	Hold                   // waits for the outcome of a dial
	Deliver                // goes to the box's listener, which answers SYN+ACK
	Drop                   // vanishes, as if nobody had answered
	Reset                  // is answered by a TCP reset
	NoRoute                // is answered by the ICMP error "no route", and so on
	HostUnreachable
	Prohibited
)

var verdictNames = [...]string{
	"accept", "rewrite", "hold", "deliver", "drop", "reset", "no-route", "host-unreachable", "prohibited",
}

func (v Verdict) String() string { return verdictNames[v] }

// Decision is the verdict on one packet, and why.
type Decision struct {
	// Packet is the one that the verdict is about. Of a packet that was held, only
	// its ID and Side are known.
	Packet  Packet
	Verdict Verdict
	Reason  state.Reason
	Rule    string    // of policy, "" for the default action
	Key     state.Key // of the flow; the zero Key if the packet belongs to none
	Edited  []byte    // the packet that goes on after Rewrite
	// Asks reports whether the answer to this SYN will say if its server speaks MPTCP.
	Asks bool
	// Supersedes reports whether this SYN takes the place of another one that was held
	// for the flow. That one is dropped, which is a Decision of its own.
	Supersedes bool
	// Reuses reports whether the packet is a SYN that passes, and may have the ports of a
	// relayed flow that has ended: sockets of that which the kernel still has (TIME-WAIT) would
	// take the packets of the new connection, and must go first.
	Reuses bool
	// Asked is the request of a client in a preface. Then the verdict is about the client
	// with the ID of the packet, which has no Data: [Deliver] pairs it, [Reset] and the
	// errors become the reply, and all others refuse it without saying more.
	Asked *state.Asked
	// Settles reports whether the packet was held until now, for the time Held.
	Settles bool
	Held    time.Duration
}

// Why returns the reason for a decision in a word: the name of the rule that
// applied, if no other reason goes before it.
func (d *Decision) Why() string {
	if d.Reason == state.None {
		return d.Rule
	}
	return d.Reason.String()
}
