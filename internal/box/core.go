package box

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// Verdict says what becomes of a queued SYN.
type Verdict uint8

const (
	Accept  Verdict = iota // goes its ordinary way, untouched
	Rewrite                // goes its ordinary way, as another packet
	Hold                   // waits for the outcome of a dial
	Deliver                // goes to the box's listener, which answers SYN+ACK
	Drop                   // vanishes, as if nobody had answered
	Reset                  // is answered by a TCP reset
	NoRoute                // … by the ICMP error "no route", and so on
	HostUnreachable
	Prohibited
)

var verdictNames = [...]string{
	"accept", "rewrite", "hold", "deliver", "drop", "reset", "no-route", "host-unreachable", "prohibited",
}

func (v Verdict) String() string { return verdictNames[v] }

// Decision is the verdict on one packet, and why.
type Decision struct {
	Verdict Verdict
	Reason  string
	Key     state.Key
	Packet  []byte         // what goes on after Rewrite
	Traits  rewrite.Traits // of a SYN, for the dial after Hold
	From    Source         // where that dial is to come from; zero: from the client
	Terms   paths.Terms    // of its further subflows
	// Asks tells that the answer to a SYN will say whether its server speaks MPTCP.
	Asks bool
	// Other tells that a SYN to deliver is not the one of the live flow.
	Other bool
	// Supersedes tells that the SYN with ID Superseded was held for this flow
	// until now, and is to be dropped: this one takes its place.
	Supersedes bool
	Superseded uint32
}

// Core decides about SYNs and keeps the flow table. It is safe for concurrent use.
type Core struct {
	Table   *state.Table
	Learnt  *state.Learnt
	policy  atomic.Pointer[Policy]
	outlook atomic.Pointer[Outlook]
}

// NewCore returns a core with an empty table.
func NewCore(cfg state.Config, learnt state.LearntConfig, p *Policy) *Core {
	c := &Core{Table: state.NewTable(cfg), Learnt: state.NewLearnt(learnt)}
	c.SetPolicy(p)
	c.outlook.Store(new(Outlook))
	return c
}

// SetPolicy replaces the policy, for SYNs to come.
func (c *Core) SetPolicy(p *Policy) { c.policy.Store(p) }

// SetOutlook says how flows to come will fare, and reports whether a path is down
// that was not before: then some dials may be [Core.Doomed].
func (c *Core) SetOutlook(o Outlook) (fallen bool) {
	before := c.outlook.Swap(&o).Down
	return slices.ContainsFunc(o.Down, func(way string) bool { return !slices.Contains(before, way) })
}

// Packet decides about a packet that entered on side and that the queue knows
// by id. After [Hold] the caller dials, and reports to [Core.Connected].
func (c *Core) Packet(now time.Duration, side state.Side, id uint32, packet []byte) Decision {
	var seg rewrite.Segment
	if err := seg.Parse(packet); err != nil {
		return c.ignore(err.Error())
	}
	if seg.SourceRouted {
		return c.ignore("source-routed") // TPROXY would see an address on the way
	}
	mptcp, err := seg.MPTCP()
	switch {
	case err != nil:
		return c.ignore(err.Error())
	case seg.IsSYNACK():
		return c.answer(now, &seg, mptcp)
	case !seg.IsSYN():
		return c.ignore("not-a-syn")
	}
	if !seg.ChecksumOK() {
		return c.ignore(rewrite.BadChecksum.Error()) // whoever gets it will drop it
	}
	traits := seg.Traits()
	if traits.HopLimit <= 1 {
		return c.ignore("hop-limit") // a router must answer that its time is exceeded
	}
	f := state.Flow{Key: state.KeyOf(seg.Src, seg.Dst), Side: side, Held: id, ISN: seg.Seq}
	policy := c.policy.Load()
	choice := policy.Choose(side, &seg, mptcp)
	f.Action, f.Reason = choice.Action, choice.Reason
	if f.Action == state.Learn {
		f.Action, f.Reason = c.recall(now, &seg, mptcp, f.Reason)
	}
	from := c.outlook.Load().foresee(&f)
	d := c.begin(now, f, &seg, mptcp.Capable)
	d.Traits, d.From, d.Terms = traits, from, choice.Terms
	if d.Verdict == Accept && mptcp.Capable {
		d = policy.mark(d, side, &seg)
	}
	return d
}

// begin records the flow of a SYN, unless it is there already or there is no
// room for it: then MP_CAPABLE is taken out, or the SYN passes if it has none.
// A box that is full stops bonding, it breaks nothing.
func (c *Core) begin(now time.Duration, f state.Flow, seg *rewrite.Segment, capable bool) Decision {
	if f.Action == state.Strip && !capable {
		f.Action = state.Pass
	}
	at := beginnings[f.Action]
	f.State = at.state
	switch b := c.Table.Begin(now, f); {
	case b.Full != "":
		f.Action, f.Reason = state.Strip, b.Full
		return c.begin(now, f, seg, capable)
	case b.Repeat && b.State == state.Dialing:
		return Decision{Verdict: Hold, Reason: "repeat", Key: f.Key, Supersedes: true, Superseded: b.Superseded}
	case b.Repeat && b.State == state.Learning:
		// The first SYN, or its answer, was lost, perhaps for its MP_CAPABLE.
		c.Table.Move(now, f.Key, state.Passed, "not-learnt")
		return Decision{Verdict: Accept, Reason: "not-learnt", Key: f.Key}
	case b.Repeat:
		// The kernel has, or had, a socket for it: it knows best how to answer.
		return Decision{Verdict: Deliver, Reason: "repeat", Key: f.Key, Other: b.Other}
	}
	d := Decision{Verdict: at.verdict, Reason: f.Reason, Key: f.Key}
	switch f.Action {
	case state.Strip:
		return c.strip(d, seg)
	case state.Learn:
		return c.offer(now, d, seg, capable)
	}
	return d
}

// beginnings says where a flow starts, by action.
var beginnings = [...]struct {
	state   state.State
	verdict Verdict
}{
	state.Relay:  {state.Dialing, Hold},
	state.Pass:   {state.Passed, Accept},
	state.Strip:  {state.Passed, Rewrite},
	state.Learn:  {state.Learning, Rewrite},
	state.Reject: {state.Rejected, Prohibited},
}

// ignore lets through what is no SYN that a box could understand.
func (c *Core) ignore(reason string) Decision {
	c.Table.Count(reason)
	return Decision{Verdict: Accept, Reason: reason}
}

// outcome is how a dial may end.
type outcome struct {
	errno   unix.Errno
	state   state.State
	verdict Verdict
	reason  string
}

// outcomes of connect(2): the client is to see what the box saw. RFC 1122,
// section 4.2.3.9, and the kernel's icmp_err_convert say which error means what.
var outcomes = []outcome{
	{0, state.Released, Deliver, ""},
	{unix.ECONNREFUSED, state.Refused, Reset, "refused"},
	{unix.ENETUNREACH, state.Unreachable, NoRoute, "no-route"},
	{unix.EHOSTUNREACH, state.Unreachable, HostUnreachable, "host-unreachable"},
	{unix.EHOSTDOWN, state.Unreachable, HostUnreachable, "host-unreachable"},
	{unix.EACCES, state.Unreachable, Prohibited, "prohibited"},
	{unix.ETIMEDOUT, state.TimedOut, Drop, "no-answer"},
	// The 5-tuple is in use, or was a moment ago: passing the SYN on would have
	// its answer delivered to the old socket.
	{unix.EADDRNOTAVAIL, state.Failed, Drop, "tuple-busy"},
	// A listener of this machine has the client's port.
	{unix.EADDRINUSE, state.Failed, Accept, "port-in-use"},
	{unix.EMFILE, state.Failed, Accept, "files-full"},
	{unix.ENFILE, state.Failed, Accept, "files-full"},
	{unix.ENOBUFS, state.Failed, Accept, "memory-full"},
	{unix.ENOMEM, state.Failed, Accept, "memory-full"},
}

// outcomeOf finds the outcome for an error. An unknown one passes the SYN on.
func outcomeOf(err error) outcome {
	var errno unix.Errno
	errors.As(err, &errno)
	for _, o := range outcomes {
		if o.errno == errno && (err == nil) == (errno == 0) {
			return o
		}
	}
	return outcome{errno, state.Failed, Accept, "dial-failed"}
}

// Connected decides about the SYN that is held for the flow with that key, now
// that the dial has ended with err: nil, or what connect(2) or the sockets
// before it said. It returns the flow as it was left, and false when no SYN is
// held any more.
func (c *Core) Connected(now time.Duration, key state.Key, err error) (d Decision, f state.Flow, ok bool) {
	o := outcomeOf(err)
	f, ok = c.Table.Move(now, key, o.state, o.reason)
	return Decision{Verdict: o.verdict, Reason: o.reason, Key: key}, f, ok
}

// Doomed tells whether the dial for a SYN that entered on side, which goes from
// from, waits in vain: its path is down.
func (c *Core) Doomed(side state.Side, from Source) bool {
	return side == state.Plain && slices.Contains(c.outlook.Load().Down, from.Interface)
}

// Reconsider decides about the SYN that is held for the flow with that key as
// about a new one, now that its dial has been given up. After [Hold] the caller
// dials again, from the decision's From. It returns the flow as it was left, and
// false when no SYN is held any more.
func (c *Core) Reconsider(now time.Duration, side state.Side, key state.Key) (d Decision, f state.Flow, ok bool) {
	f = state.Flow{Key: key, Side: side, Action: state.Relay}
	d = Decision{Key: key, From: c.outlook.Load().foresee(&f), Reason: f.Reason}
	at := beginnings[f.Action]
	d.Verdict = at.verdict
	f, ok = c.Table.Move(now, key, at.state, f.Reason)
	return d, f, ok
}
