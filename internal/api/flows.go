package api

import "net/netip"

// Dump is the state of a box, as `synbond flows --json` prints it.
type Dump struct {
	Role   string `json:"role"` // cpe, hag or gateway
	Flows  []Flow `json:"flows"`
	Totals Totals `json:"totals"`
	// Learnt lists the destinations known to action learn, in dumps of all flows.
	Learnt []Learnt `json:"learnt,omitempty"`
	// Obstacles lists destinations to which dials have failed, in dumps of all flows.
	Obstacles []Obstacle `json:"obstacles,omitempty"`
}

// Obstacle is a destination to which dials have failed over a path, so that flows pass, or
// go without MPTCP.
type Obstacle struct {
	Path    string       `json:"path,omitempty"` // "" for hosts of the plain side
	Prefix  netip.Prefix `json:"prefix"`         // of length 0: the path as a whole, for that family
	Reason  string       `json:"reason"`
	RetryMS int64        `json:"retry_ms"` // from now, until a flow tries again
}

// Learnt is a destination, and whether it answers with MPTCP.
type Learnt struct {
	Prefix    netip.Prefix `json:"prefix"`
	MPTCP     bool         `json:"mptcp"`
	ExpiresMS int64        `json:"expires_ms"` // from now
}

// Flow is one flow of a dump.
type Flow struct {
	Client  netip.AddrPort `json:"client"`
	Server  netip.AddrPort `json:"server"`
	Side    string         `json:"side"` // on which it entered: plain or multipath
	Action  string         `json:"action"`
	State   string         `json:"state"`
	Reason  string         `json:"reason"`
	Rule    string         `json:"rule,omitempty"` // of policy, that has chosen the action
	AgeMS   int64          `json:"age_ms"`
	SetupUS int64          `json:"setup_us"` // from the SYN to both legs
	MPTCP   bool           `json:"mptcp"`
	Token   uint32         `json:"token"` // of the MPTCP connection (RFC 8684, section 3.2)
	// DialedFrom is the source of the onward connection if that is not the client.
	DialedFrom netip.AddrPort `json:"dialed_from,omitzero"`
	BytesUp    uint64         `json:"bytes_up"`
	BytesDown  uint64         `json:"bytes_down"`
	Subflows   []Subflow      `json:"subflows"`
	// Recording is the file that has the flow's handshake, while there is one.
	Recording string `json:"recording,omitempty"`
	// At is the address of a gateway to which the client has connected. User and Name are who
	// has asked for the server, and the name that was asked for with its port; each "" without
	// one. A name that has not been connected has no Server.
	At   netip.AddrPort `json:"at,omitzero"`
	User string         `json:"user,omitempty"`
	Name string         `json:"name,omitempty"`
}

// Subflow is one subflow of the multipath leg, from the box's point of view.
type Subflow struct {
	Path          string         `json:"path"` // "" if no configured path has its address
	Local         netip.AddrPort `json:"local"`
	Remote        netip.AddrPort `json:"remote"`
	Backup        bool           `json:"backup"`                 // now, for either end
	Encapsulated  bool           `json:"encapsulated,omitempty"` // it travels in UDP datagrams
	RTTUS         int64          `json:"rtt_us"`
	BytesSent     uint64         `json:"bytes_sent"`
	BytesReceived uint64         `json:"bytes_received"`
	Retransmitted uint64         `json:"retransmitted"` // of the bytes sent
}

// Totals are counted since the box started.
type Totals struct {
	UptimeMS int64             `json:"uptime_ms"`
	Live     map[string]int    `json:"live"`    // live flows by state
	Entered  map[string]uint64 `json:"entered"` // flows that ever came into each state
	Reasons  map[string]uint64 `json:"reasons"` // of flows that passed or ended, and of packets let through
	Rules    map[string]uint64 `json:"rules"`   // flows by the name of the rule that has chosen their action
	Learnt   int               `json:"learnt"`  // destinations with a known answer to MPTCP
	// Translated counts the SYNs that passed because the machine has changed their destination.
	Translated uint64        `json:"translated"`
	BytesUp    uint64        `json:"bytes_up"`
	BytesDown  uint64        `json:"bytes_down"`
	Subflows   SubflowTotals `json:"subflows"` // of a CPE
	Queue      QueueTotals   `json:"queue"`
	// Findings counts the obstacles that the box knows of by their ID.
	Findings map[string]int `json:"findings,omitempty"`
	// Recording is there if the box records.
	Recording *RecordingTotals `json:"recording,omitempty"`
	// Gateway is there if the box is one.
	Gateway *GatewayTotals `json:"gateway,omitempty"`
}

// GatewayTotals count what comes before the flows of a gateway.
type GatewayTotals struct {
	// Prefaces counts the clients that have left before they were connected, by reason.
	Prefaces map[string]uint64 `json:"prefaces"`
	// Logins counts the checks of users and passwords by result.
	Logins map[string]uint64 `json:"logins,omitempty"`
	// Users has the flows that have been connected by user, "" for clients without one.
	Users map[string]UserTotals `json:"users"`
}

// UserTotals count the flows of a user.
type UserTotals struct {
	Live      int    `json:"live"`
	Flows     uint64 `json:"flows"` // that have closed
	BytesUp   uint64 `json:"bytes_up"`
	BytesDown uint64 `json:"bytes_down"`
	// RateUp and RateDown are the present rates, and RateLimit the bound of each, in bit/s.
	RateUp    uint64 `json:"rate_up"`
	RateDown  uint64 `json:"rate_down"`
	RateLimit uint64 `json:"rate_limit,omitempty"`
	Quota     *Quota `json:"quota,omitempty"`
}

// SubflowTotals count a CPE's subflows.
type SubflowTotals struct {
	Open   int    `json:"open"`   // now, first ones of connections too
	Opened uint64 `json:"opened"` // by the box
	Failed uint64 `json:"failed"` // attempts
	Lost   uint64 `json:"lost"`   // closed by the peer or the kernel
	Closed uint64 `json:"closed"` // by the box
}

// QueueTotals count packets and errors of the NFQUEUE.
type QueueTotals struct {
	Waiting     uint64 `json:"waiting"`      // packets without a verdict
	Dropped     uint64 `json:"dropped"`      // by the kernel: the queue was full
	UserDropped uint64 `json:"user_dropped"` // by the kernel: the socket buffer was full
	Errors      uint64 `json:"errors"`       // reported by the socket, such as late verdicts
	Stray       uint64 `json:"stray"`        // verdicts that could not be sent
}

// RecordingTotals count the packets of a recording.
type RecordingTotals struct {
	Packets uint64 `json:"packets"` // written
	Dropped uint64 `json:"dropped"` // for want of time or of room
	File    string `json:"file"`    // the current file, "" if none can be written
}
