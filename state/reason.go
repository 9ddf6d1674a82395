package state

import "github.com/synbond/synbond/rewrite"

// Reason says why a packet was let through, or why a flow is passed, relayed or
// over. The zero Reason is none: the flow has only done what policy asked for.
// The first values are those of [rewrite.Reason].
type Reason uint8

// Reasons of a box, beside those of package rewrite.
const (
	NotASYN Reason = iota + Reason(rewrite.NumReasons)
	HopLimit
	UnknownInterface
	NotAsked
	Repeat

	EndToEnd
	MPJoin
	PlainTCP
	LearntMPTCP
	LearntPlain
	NotLearnt

	HalfOpenFull
	FlowsFull
	FilesFull
	MemoryFull
	PortInUse
	DialFailed
	TupleBusy

	WasRefused
	NoRoute
	HostUnreachable
	Prohibited
	NoAnswer

	FirstPathDown
	HAGDown

	FIN
	Reset

	// NumReasons is one more than the largest Reason: the length of an array of
	// counters that is indexed by Reason.
	NumReasons
)

// None is the Reason of a flow that needs none.
const None Reason = 0

// Because returns the Reason that err stands for: err is an error of package
// rewrite, or nil.
func Because(err error) Reason {
	r, _ := err.(rewrite.Reason)
	return Reason(r)
}

// reason describes a Reason to people.
type reason struct {
	name    string
	meaning string
	fault   bool
}

// reasons has what package rewrite does not know: the names of its own reasons
// come from there.
var reasons = [NumReasons]reason{
	rewrite.Truncated:              {meaning: "let through: fewer bytes than the IP header announces", fault: true},
	rewrite.BadIPHeader:            {meaning: "let through: the IP header contradicts itself", fault: true},
	rewrite.Fragment:               {meaning: "let through: a fragment"},
	rewrite.UnknownExtensionHeader: {meaning: "let through: an IPv6 header that may hide the TCP header"},
	rewrite.NotTCP:                 {meaning: "let through: another protocol than TCP"},
	rewrite.BadTCPHeader:           {meaning: "let through: no room for the TCP header", fault: true},
	rewrite.BadOption:              {meaning: "let through: a TCP option overruns the list, or an MPTCP option has a wrong length", fault: true},
	rewrite.BadChecksum:            {meaning: "let through: whoever gets the packet drops it", fault: true},
	rewrite.NotSYN:                 {meaning: "let through: there is nothing to edit in a segment without SYN"},
	rewrite.SourceRouted:           {meaning: "let through: the packet has hops of a source route before it"},
	rewrite.Authenticated:          {meaning: "passed: a signature (AH, TCP-MD5, TCP-AO) covers the SYN, which a box can neither edit nor send again in the host's name"},
	rewrite.AlreadyMPTCP:           {meaning: "passed: an MPTCP option leaves no place for another"},
	rewrite.NoOptionSpace:          {meaning: "passed: MP_CAPABLE does not fit into the SYN"},
	rewrite.TooLong:                {meaning: "passed: the edited SYN would be too long"},

	NotASYN:          {"not-a-syn", "let through: no segment that a box decides on", false},
	HopLimit:         {"hop-limit", "let through: a router has to answer that the hop limit is exceeded", false},
	UnknownInterface: {"unknown-interface", "let through: the packet came in by an interface of neither side", true},
	NotAsked:         {"not-asked", "let through: a SYN+ACK to a SYN that was not to ask", false},
	Repeat:           {"repeat", "a SYN of a flow that is there already", false},

	EndToEnd:    {"end-to-end", "passed: a host on the plain side speaks MPTCP itself", false},
	MPJoin:      {"mp-join", "passed: a subflow of somebody else's connection", false},
	PlainTCP:    {"plain-tcp", "passed: no MP_CAPABLE from the other box", false},
	LearntMPTCP: {"learnt-mptcp", "the server is known to speak MPTCP, from this flow or an earlier one", false},
	LearntPlain: {"learnt-plain", "the server is known not to speak MPTCP, from this flow or an earlier one", false},
	NotLearnt:   {"not-learnt", "passed: the SYN was repeated while the box waited for its answer, so nothing can be learnt", false},

	HalfOpenFull: {"half-open-full", "stripped, or passed if there is nothing to strip: `half-open` flows are open", true},
	FlowsFull:    {"flows-full", "stripped, or passed if there is nothing to strip: `flows` flows are live", true},
	FilesFull:    {"files-full", "passed: the box has no file descriptor for a dial", true},
	MemoryFull:   {"memory-full", "passed: the kernel has no memory for a dial", true},
	PortInUse:    {"port-in-use", "passed: a listener of the box's machine has the client's port", true},
	DialFailed:   {"dial-failed", "passed: the box could not dial", true},
	TupleBusy:    {"tuple-busy", "dropped: the 5-tuple of the onward connection is still in use", true},

	WasRefused:      {"refused", "the server has refused the connection", false},
	NoRoute:         {"no-route", "there is no route to the server", false},
	HostUnreachable: {"host-unreachable", "the server's host cannot be reached", false},
	Prohibited:      {"prohibited", "a filter on the way to the server forbids it", false},
	NoAnswer:        {"no-answer", "nobody answered: the server while dialing, or the client after the release", false},

	FirstPathDown: {"first-path-down", "passed, or relayed with `dialed_from`: the CPE's first path is down", true},
	HAGDown:       {"hag-down", "passed: the HAG does not answer", true},

	FIN:   {"fin", "both ends have closed the relayed flow", false},
	Reset: {"reset", "an end has reset the relayed flow; of an abandoned flow, the client has reset its handshake, as port scanners do", false},
}

// String returns a short lower-case word that fits as a metric label, "" for None.
func (r Reason) String() string {
	switch {
	case r == None:
		return ""
	case r < Reason(rewrite.NumReasons):
		return rewrite.Reason(r).String()
	case r >= NumReasons:
		return "invalid"
	}
	return reasons[r].name
}

// Meaning says in one line what a Reason tells of a packet or flow.
func (r Reason) Meaning() string { return reasons[r].meaning }

// IsFault reports whether a Reason is worth a look by whoever runs the box: a
// limit is reached, something is down, or packets are damaged.
func (r Reason) IsFault() bool { return reasons[r].fault }
