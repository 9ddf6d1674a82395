package pcaps

import (
	"net/netip"
	"time"
)

// Decision is a decision of a box on a packet of the capture, or at a timeout.
type Decision struct {
	Frame   int            `json:"frame"`   // number of the packet's frame; 0 at a timeout
	TimeUS  int64          `json:"time_us"` // since the first frame
	Client  netip.AddrPort `json:"client"`
	Server  netip.AddrPort `json:"server"`
	In      string         `json:"in"` // text for the packet, such as "SYN MP_CAPABLE v1"
	Verdict string         `json:"verdict"`
	Reason  string         `json:"reason"`
	Rule    string         `json:"rule,omitempty"` // name of the policy rule
	Out     string         `json:"out,omitempty"`  // text for the packet that the box sends, such as "SYN+ACK → client"
}

// Report is the result of a replay.
type Report struct {
	Flows  []*Flow
	Totals Totals
}

// Flow is a connection of the capture, as a box sees it. Fields with the same meaning as
// in the flows of a running box have the same names.
type Flow struct {
	Client    netip.AddrPort `json:"client"`
	Server    netip.AddrPort `json:"server"`
	Side      string         `json:"side"` // the side on which it entered
	Action    string         `json:"action"`
	State     string         `json:"state"` // at the end of the capture
	Reason    string         `json:"reason"`
	Rule      string         `json:"rule,omitempty"` // name of the policy rule with the action
	Frame     int            `json:"frame"`          // of its first SYN
	TimeUS    int64          `json:"time_us"`        // of its first SYN, since the first frame of the capture
	SetupUS   int64          `json:"setup_us"`       // from the SYN until both legs are connected
	Packets   uint64         `json:"packets"`        // without the copies that a forwarding router adds
	BytesUp   uint64         `json:"bytes_up"`       // payload of these packets
	BytesDown uint64         `json:"bytes_down"`
	Connection
	Handshake []Step `json:"handshake"`
	Omitted   int    `json:"omitted,omitempty"` // number of further steps
}

// Connection is the MPTCP connection of a flow, according to its MPTCP options.
type Connection struct {
	MPTCP   bool   `json:"mptcp"`             // both ends use MPTCP, without a fallback so far
	Version *uint8 `json:"version,omitempty"` // of MP_CAPABLE: 0 is RFC 6824, 1 is RFC 8684
	// Token is the token of the box's end, or 0 if the capture does not have its key: the
	// server's end for a flow that entered on the multipath side, else the client's.
	Token       uint32    `json:"token"`
	ClientToken uint32    `json:"client_token,omitempty"`
	ServerToken uint32    `json:"server_token,omitempty"`
	Fallback    string    `json:"fallback,omitempty"` // reason for plain TCP after an offer of MPTCP
	Subflows    []Subflow `json:"subflows"`           // further subflows, joined or not
	// SubflowOf is the client of the connection to which this flow is a subflow.
	SubflowOf netip.AddrPort `json:"subflow_of,omitzero"`
}

// Subflow is an MP_JOIN to a connection.
type Subflow struct {
	Client    netip.AddrPort `json:"client"`
	Server    netip.AddrPort `json:"server"`
	Frame     int            `json:"frame"` // of the SYN
	AddressID uint8          `json:"address_id"`
	Backup    bool           `json:"backup"`
	State     string         `json:"state"` // "joined", or the last step of the handshake
}

// End is the sender or receiver of a packet: a column of the ladder diagram.
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

// Step is one packet of a handshake, on one leg or through the box from end to end.
type Step struct {
	Frame  int    `json:"frame"` // of the packet, or of the packet that caused it
	TimeUS int64  `json:"time_us"`
	From   End    `json:"from"`
	To     End    `json:"to"`
	Packet string `json:"packet"`
}

// Totals holds the counters of a replay.
type Totals struct {
	Packets  uint64            `json:"packets"`
	Bytes    uint64            `json:"bytes"`             // captured
	Cut      uint64            `json:"cut"`               // packets with bytes behind the snap length
	NotIP    uint64            `json:"not_ip"`            // packets other than IP, copied unchanged
	Unread   map[string]uint64 `json:"unread"`            // packets of other protocols, which may hide IP packets, by kind
	Damaged  uint64            `json:"damaged,omitempty"` // places of the file that are no records, see [Damage]
	Late     uint64            `json:"late"`              // packets with a time before that of an earlier packet
	LateUS   int64             `json:"late_us"`           // the largest such difference
	LeftOut  uint64            `json:"left_out"`          // packets not written: copies on their way out of the box, or for the box itself
	Written  uint64            `json:"written"`           // packets of the output
	Start    time.Time         `json:"start,omitzero"`    // of the first frame: time 0 of all others
	SpanUS   int64             `json:"span_us"`           // from the first frame to the last
	Flows    int               `json:"flows"`             // including those that are not in the report
	Verdicts map[string]uint64 `json:"verdicts"`
	Entered  map[string]uint64 `json:"entered"` // flows that have entered each state
	Reasons  map[string]uint64 `json:"reasons"`
	Rules    map[string]uint64 `json:"rules,omitempty"` // flows by the name of the rule with their action
	Learnt   int               `json:"learnt"`          // destinations with a known result of learning
}
