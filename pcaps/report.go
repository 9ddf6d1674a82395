package pcaps

import (
	"net/netip"
	"time"
)

// Decision is what a box decides about a packet of the capture, or when a time is up.
type Decision struct {
	Frame   int            `json:"frame"`   // what it is about; 0 when a time was up
	TimeUS  int64          `json:"time_us"` // since the first frame
	Client  netip.AddrPort `json:"client"`
	Server  netip.AddrPort `json:"server"`
	In      string         `json:"in"` // what came, such as "SYN MP_CAPABLE v1"
	Verdict string         `json:"verdict"`
	Reason  string         `json:"reason"`
	Rule    string         `json:"rule,omitempty"` // of policy
	Out     string         `json:"out,omitempty"`  // what the box sends, such as "SYN+ACK → client"
}

// Report is what a replay has found.
type Report struct {
	Flows  []*Flow
	Totals Totals
}

// Flow is a connection of the capture, as the box saw it. Its fields have the
// names of a running box's dump where they mean the same.
type Flow struct {
	Client    netip.AddrPort `json:"client"`
	Server    netip.AddrPort `json:"server"`
	Side      string         `json:"side"` // by which it entered
	Action    string         `json:"action"`
	State     string         `json:"state"` // the last one
	Reason    string         `json:"reason"`
	Rule      string         `json:"rule,omitempty"` // of policy, that has chosen the action
	Frame     int            `json:"frame"`          // of its first SYN
	TimeUS    int64          `json:"time_us"`        // of that, since the first frame of the capture
	SetupUS   int64          `json:"setup_us"`       // from the SYN to both legs
	Packets   uint64         `json:"packets"`        // without copies of those that a router has forwarded
	BytesUp   uint64         `json:"bytes_up"`       // payload of these
	BytesDown uint64         `json:"bytes_down"`
	Connection
	Handshake []Step `json:"handshake"`
	Omitted   int    `json:"omitted,omitempty"` // steps beyond those of Handshake
}

// Connection is what the MPTCP options of a flow tell.
type Connection struct {
	MPTCP   bool   `json:"mptcp"`             // both ends have agreed on it, and have not fallen back
	Version *uint8 `json:"version,omitempty"` // of MP_CAPABLE: 0 is RFC 6824, 1 is RFC 8684
	// Token is that of the box's end, 0 if its key was not seen: of the server's
	// end for a flow that entered on the multipath side, else of the client's.
	Token       uint32    `json:"token"`
	ClientToken uint32    `json:"client_token,omitempty"`
	ServerToken uint32    `json:"server_token,omitempty"`
	Fallback    string    `json:"fallback,omitempty"` // why it is TCP, though MPTCP was offered
	Subflows    []Subflow `json:"subflows"`           // that have joined it, or tried to
	// SubflowOf is the client of the connection that this flow has joined.
	SubflowOf netip.AddrPort `json:"subflow_of,omitzero"`
}

// Subflow is an MP_JOIN to a connection.
type Subflow struct {
	Client    netip.AddrPort `json:"client"`
	Server    netip.AddrPort `json:"server"`
	Frame     int            `json:"frame"`
	AddressID uint8          `json:"address_id"`
	Backup    bool           `json:"backup"`
	State     string         `json:"state"` // "joined", or how far it came
}

// End is one of the columns of a handshake.
type End uint8

// The ends, from left to right.
const (
	Client End = iota
	Box
	Server
)

var endNames = [...]string{"client", "box", "server"}

func (e End) String() string { return endNames[e] }

// MarshalText implements [encoding.TextMarshaler].
func (e End) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// Step is one packet of a handshake on one leg, or on its way through the box.
type Step struct {
	Frame  int    `json:"frame"` // that was captured, or that it follows from
	TimeUS int64  `json:"time_us"`
	From   End    `json:"from"`
	To     End    `json:"to"`
	Packet string `json:"packet"`
}

// Totals count what a capture holds, and what became of it.
type Totals struct {
	Packets  uint64            `json:"packets"`
	Bytes    uint64            `json:"bytes"`          // captured
	Cut      uint64            `json:"cut"`            // packets with bytes behind the snap length
	NotIP    uint64            `json:"not_ip"`         // copied without a look
	Unread   map[string]uint64 `json:"unread"`         // of which, by link type, where it is one that the package does not know
	Late     uint64            `json:"late"`           // packets with a time before that of another before them
	LateUS   int64             `json:"late_us"`        // by how much, at most
	LeftOut  uint64            `json:"left_out"`       // of which the capture shows both how they came and how they left, or that the box has sent
	Written  uint64            `json:"written"`        // packets of the output
	Start    time.Time         `json:"start,omitzero"` // when the first frame was captured: time 0 of all others
	SpanUS   int64             `json:"span_us"`        // from the first frame to the last
	Flows    int               `json:"flows"`          // with those that are not listed
	Verdicts map[string]uint64 `json:"verdicts"`
	Entered  map[string]uint64 `json:"entered"` // flows that ever came into each state
	Reasons  map[string]uint64 `json:"reasons"`
	Rules    map[string]uint64 `json:"rules,omitempty"` // flows by the name of the rule that has chosen their action
	Learnt   int               `json:"learnt"`          // destinations of which it is known whether they speak MPTCP
}
