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
	NoUpstream
	IsUpstream
	MPTCPBlocked
	Unanswered
	Filtered
	NotDelivered

	Forbidden
	NoAddress
	UserFull
	UserQuota

	FIN
	Reset
	NoSubflow
	HAGRestarted

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
	rewrite.Truncated:              {meaning: "passed: the packet has fewer bytes than its IP header announces", fault: true},
	rewrite.BadIPHeader:            {meaning: "passed: the IP header contradicts itself", fault: true},
	rewrite.Fragment:               {meaning: "passed: an IP fragment"},
	rewrite.UnknownExtensionHeader: {meaning: "passed: an unknown IPv6 extension header may hide the TCP header"},
	rewrite.NotTCP:                 {meaning: "passed: another protocol than TCP"},
	rewrite.BadTCPHeader:           {meaning: "passed: the packet has no room for its TCP header", fault: true},
	rewrite.BadOption:              {meaning: "passed: a TCP option overruns the option list, or an MPTCP option has a wrong length", fault: true},
	rewrite.BadChecksum:            {meaning: "passed: the TCP checksum is wrong, so the receiver will drop the packet", fault: true},
	rewrite.NotSYN:                 {meaning: "passed: a segment without SYN has nothing to edit"},
	rewrite.SourceRouted:           {meaning: "passed: a source route has hops left"},
	rewrite.Authenticated:          {meaning: "passed: the SYN is signed (AH, TCP-MD5, TCP-AO); a box can neither edit it nor sign another in the host's name"},
	rewrite.AlreadyMPTCP:           {meaning: "passed: the SYN to edit has an MPTCP option already"},
	rewrite.NoOptionSpace:          {meaning: "passed: MP_CAPABLE does not fit into the SYN's options"},
	rewrite.TooLong:                {meaning: "passed: the edited SYN would be too long"},

	NotASYN:          {"not-a-syn", "passed: neither a SYN nor a SYN+ACK", false},
	HopLimit:         {"hop-limit", "passed: the hop limit is used up, or at most 30 as those of traceroute, and a router must answer that", false},
	UnknownInterface: {"unknown-interface", "passed: the packet came in by an interface of neither side", true},
	NotAsked:         {"not-asked", "passed: a SYN+ACK whose SYN asked nothing", false},
	Repeat:           {"repeat", "a repeat of a SYN whose flow is live", false},

	EndToEnd:    {"end-to-end", "passed: a host on the plain side speaks MPTCP itself", false},
	MPJoin:      {"mp-join", "passed: a subflow of a connection that is not the box's", false},
	PlainTCP:    {"plain-tcp", "passed: no MP_CAPABLE from the other box", false},
	LearntMPTCP: {"learnt-mptcp", "the server speaks MPTCP, as learnt from this flow or an earlier one", false},
	LearntPlain: {"learnt-plain", "the server does not speak MPTCP, as learnt from this flow or an earlier one", false},
	NotLearnt:   {"not-learnt", "passed: the SYN was repeated while the box waited for the SYN+ACK, so nothing can be learnt", false},

	HalfOpenFull: {"half-open-full", "stripped, or passed if there is no MP_CAPABLE to strip: the limit `half_open` is reached", true},
	FlowsFull:    {"flows-full", "stripped, or passed if there is no MP_CAPABLE to strip: the limit `flows` is reached", true},
	FilesFull:    {"files-full", "passed: no file descriptor is left for a dial", true},
	MemoryFull:   {"memory-full", "passed: the kernel has no memory for a dial", true},
	PortInUse:    {"port-in-use", "relayed from another port (`dialed_from`), or passed: a listener of the box's machine has the client's port", true},
	DialFailed:   {"dial-failed", "passed: the box could not dial", true},
	TupleBusy:    {"tuple-busy", "dropped: the 5-tuple of the onward connection is still in use", true},

	WasRefused:      {"refused", "the server refused the connection", false},
	NoRoute:         {"no-route", "no route leads to the server", false},
	HostUnreachable: {"host-unreachable", "the server's host cannot be reached", false},
	Prohibited:      {"prohibited", "a filter on the way to the server prohibits the connection", false},
	NoAnswer:        {"no-answer", "no answer from the server to the dial, or from the client after the release", false},

	FirstPathDown: {"first-path-down", "passed, or relayed with `dialed_from`: the CPE's first path is down", true},
	HAGDown:       {"hag-down", "passed: the HAG does not answer", true},
	NoUpstream:    {"no-upstream", "passed, or rejected if `upstream.down` says so: no upstream can be used, or serve the flow", true},
	IsUpstream:    {"upstream", "passed: the flow is one to or from an upstream itself", false},

	MPTCPBlocked: {"mptcp-blocked", "passed, or relayed without MPTCP: on this path, SYNs with MP_CAPABLE were dropped or rejected, and SYNs without it answered", true},
	Unanswered:   {"unanswered", "passed: a dial to the server got no answer; the server is down, or its SYN+ACKs do not come by the box", false},
	Filtered:     {"filtered", "passed: a firewall or a setting of the box's machine stops relayed connections, as its findings say", true},

	NotDelivered: {"not-delivered", "passed: the SYNs that the box released, or its answers to them, were lost on this machine, or between it and the client", true},

	Forbidden: {"forbidden", "refused by a gateway: the destination is loopback, link-local, private, multicast or an address of the gateway itself, and no rule names it", false},
	UserFull:  {"user-full", "refused by a gateway: the limit `user_flows` is reached for the user", true},
	UserQuota: {"user-quota", "refused, or ended with a reset, by a gateway: the quota of the user is used up", true},
	NoAddress: {"no-address", "refused by a gateway: the name of the destination does not resolve", false},

	FIN:   {"fin", "both ends closed the relayed flow", false},
	Reset: {"reset", "an end reset the relayed flow; of an abandoned flow: the client reset its handshake, as port scanners do", false},

	NoSubflow:    {"no-subflow", "ended with a reset: the flow had no subflow for 3 s although a path was up, or at a HAG for 75 s", true},
	HAGRestarted: {"hag-restarted", "ended with a reset: the HAG has restarted, and its flows are gone", true},
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

// ReasonNames returns the names of all reasons but None.
func ReasonNames() []string {
	var names []string
	for r := None + 1; r < NumReasons; r++ {
		names = append(names, r.String())
	}
	return names
}

// Meaning says in one line what a Reason tells of a packet or flow.
func (r Reason) Meaning() string { return reasons[r].meaning }

// IsFault reports whether a Reason is worth a look by whoever runs the box: a
// limit is reached, something is down, or packets are damaged.
func (r Reason) IsFault() bool { return reasons[r].fault }
