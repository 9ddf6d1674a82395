package state

import (
	"net/netip"
	"time"
)

// Side is the direction in which an interface of a box faces: hosts, or the other box.
type Side uint8

const (
	Plain     Side = iota // hosts without MPTCP
	Multipath             // the other box
)

// Opposite returns the side to which a flow that entered on s leaves.
func (s Side) Opposite() Side { return 1 - s }

func (s Side) String() string { return [...]string{"plain", "multipath"}[s] }

// Action is the choice of policy for a flow.
type Action uint8

const (
	Relay  Action = iota // terminate it and carry its bytes
	Pass                 // let it go its ordinary way
	Strip                // take MP_CAPABLE out of its SYN, and let it go
	Learn                // offer MPTCP for it to see whether the server speaks it
	Reject               // answer that it is prohibited
)

// Actions are the names of all actions, by value.
var Actions = [...]string{"relay", "pass", "strip", "learn", "reject"}

func (a Action) String() string { return Actions[a] }

// State is the stage of a flow's life.
type State uint8

const (
	Dialing State = iota
	Released
	Learning
	Relaying
	Passed
	Rejected
	Closed
	Abandoned
	Refused
	Unreachable
	TimedOut
	Failed
	NumStates // the length of an array that is indexed by State
)

var stateNames = [NumStates]string{
	"dialing", "released", "learning", "relaying", "passed", "rejected", "closed",
	"abandoned", "refused", "unreachable", "timed-out", "failed",
}

func (s State) String() string { return stateNames[s] }

// StateNames returns the names of all states.
func StateNames() []string { return stateNames[:] }

// Live reports whether the flow is not over.
func (s State) Live() bool { return s <= Relaying }

// follows lists, for each state, the states that a flow may come from.
var follows = [NumStates][]State{
	Dialing:     {Dialing}, // once more, from elsewhere
	Released:    {Dialing},
	Relaying:    {Released},
	Passed:      {Learning, Dialing},
	Rejected:    {Dialing},
	Closed:      {Relaying, Released, Dialing},
	Abandoned:   {Released, Dialing},
	Refused:     {Dialing},
	Unreachable: {Dialing},
	TimedOut:    {Dialing, Learning},
	Failed:      {Dialing, Released},
}

// Flow is one client connection as a box sees it. Its fields change only
// through the [Table] that it belongs to. What the SYN of a live flow is compared
// with comes first: it shares a cache line.
type Flow struct {
	Key    Key
	Side   Side // by which it entered
	Action Action
	State  State
	Reason Reason // why it is passed or relayed, or how it ended
	// Capable reports whether its SYN bears MP_CAPABLE.
	Capable bool
	// Held is the ID of what waits for its verdict while Dialing: of a SYN in the queue, or of
	// a client that has Asked.
	Held uint32
	// ISN is the initial sequence number of that SYN.
	ISN uint32
	// Began is when the first SYN arrived, Changed when State last changed,
	// Setup how long it took from the SYN to both legs; all on the caller's clock.
	Began, Changed, Setup time.Duration
	ID                    ID     // the table gives it
	Rule                  string // name of the rule of policy that chose Action, "" for the default
	// Asked is the request of its client in a preface; nil for a flow on the path. It is
	// never changed, only replaced.
	Asked *Asked
}

// Asked is the request of a client in a preface. The [Key] of its flow has the address of this machine
// to which the client has connected.
type Asked struct {
	User   string         // "" without one
	Name   string         // of the destination, "" if the client has named an address
	Server netip.AddrPort // of the destination; of a name without an address until it is connected
}

// Server returns the server of the flow: where its client wants to connect to.
func (f *Flow) Server() netip.AddrPort {
	if f.Asked != nil {
		return f.Asked.Server
	}
	return f.Key.Server()
}

// ID names one attempt of one flow: it changes when the flow is dialed again, and
// no other flow of the table gets it. So an event that comes late names nothing. The
// zero ID names no flow.
type ID uint64

func makeID(n slot, serial uint32) ID { return ID(serial)<<32 | ID(n) }

func (id ID) slot() slot { return slot(id) }

// Age returns how long ago the flow began.
func (f *Flow) Age(now time.Duration) time.Duration { return now - f.Began }
