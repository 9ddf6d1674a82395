package api

import (
	"net/netip"
	"time"
)

// Paths is the state of a box's paths, as `synbond paths --json` prints it.
type Paths struct {
	Role      string    `json:"role"` // cpe or hag
	Transport Transport `json:"transport"`
	HAG       *HAG      `json:"hag,omitempty"` // as a CPE sees it
	Paths     []Path    `json:"paths"`
	// Upstreams are the servers through which a CPE's connections go that has no HAG.
	Upstreams []Upstream `json:"upstreams,omitempty"`
	// Peers are the CPEs that a HAG has heard of in the last minute.
	Peers []Peer `json:"peers,omitempty"`
	// Findings are the obstacles that the box knows of, see [Findings].
	Findings []Finding `json:"findings,omitempty"`
	// Kept are the things that the box has installed or set on its machine, as far as others
	// have changed them since it started.
	Kept []Kept `json:"kept,omitempty"`
}

// Kept is a thing that others have changed, and that the box has put back.
type Kept struct {
	Thing     string `json:"thing"`
	State     string `json:"state"`   // kept, or left: others have changed it too often
	Changes   uint64 `json:"changes"` // by others
	Last      string `json:"last"`    // the last change
	By        string `json:"by"`      // the program behind it, "" if unknown
	AgoMS     int64  `json:"ago_ms"`
	AgainInMS int64  `json:"again_in_ms,omitempty"` // until the box tries again; if left
}

// Transport lists the settings of multipath legs, fixed when the box started.
type Transport struct {
	CongestionControl string `json:"congestion_control"`
	InitialWindow     int    `json:"initial_window"` // of subflows, in segments
	// ReceiveBuffer and SendBuffer are the smallest, the initial and the largest
	// size in bytes: net.ipv4.tcp_rmem and tcp_wmem.
	ReceiveBuffer [3]int `json:"receive_buffer"`
	SendBuffer    [3]int `json:"send_buffer"`
}

// HAG is a CPE's view of its HAG.
type HAG struct {
	State    string `json:"state"` // up, down or unknown
	Reason   string `json:"reason"`
	SinceMS  int64  `json:"since_ms"` // how long ago that began
	Instance string `json:"instance"` // another after each restart, "" if it was never heard of
}

// Upstream is a server through which connections go.
type Upstream struct {
	Server string        `json:"server"`
	State  string        `json:"state"`            // up or down
	Reason string        `json:"reason,omitempty"` // of down
	Ways   []UpstreamWay `json:"ways"`
}

// UpstreamWay is a way to an upstream over one path.
type UpstreamWay struct {
	Address netip.AddrPort `json:"address"`
	Path    string         `json:"path"`
	State   string         `json:"state"` // up or down
	SinceMS int64          `json:"since_ms"`
	RTTUS   int64          `json:"rtt_us"`  // 0 if it is not known
	AtOnce  bool           `json:"at_once"` // all messages are sent at once
}

// Path is one path. A HAG knows its name and interface only.
type Path struct {
	Name      string `json:"name"`
	Interface string `json:"interface"`
	// Blocked lists the address families (IPv4, IPv6) for which the path as a whole lets no
	// MPTCP through, or no answer, to the box's dials.
	Blocked []string `json:"blocked,omitempty"`
	*PathState
}

// PathState is a CPE's knowledge of one of its paths.
type PathState struct {
	State    string           `json:"state"` // up or down
	Reason   string           `json:"reason"`
	SinceMS  int64            `json:"since_ms"`
	Mode     string           `json:"mode"`     // always, overflow, standby or backup
	Use      string           `json:"use"`      // normal, backup or closed
	Address4 netip.Addr       `json:"address4"` // "" without one
	Address6 netip.Addr       `json:"address6"`
	Reason4  string           `json:"reason4,omitempty"` // why subflows cannot use IPv4
	Reason6  string           `json:"reason6,omitempty"`
	Join     []netip.AddrPort `json:"join"`
	// Seen4 and Seen6 are the addresses from which the HAG sees the path's probes come.
	// They differ from Address4 and Address6 behind a NAT. "" if it is not known.
	Seen4 netip.Addr `json:"seen4"`
	Seen6 netip.Addr `json:"seen6"`
	// LargestPacket4 and LargestPacket6 are the sizes in bytes of the largest packets that
	// the path carries, 0 where it carries full size, or nothing is known.
	LargestPacket4 int     `json:"largest_packet4"`
	LargestPacket6 int     `json:"largest_packet6"`
	Subflows       int     `json:"subflows"` // open now
	RateUp         uint64  `json:"rate_up"`  // bit/s, of all that the interface carries
	RateDown       uint64  `json:"rate_down"`
	RTTUS          int64   `json:"rtt_us"`   // of probes; 0 if none was answered
	Loss           float64 `json:"loss"`     // share of the last 64 probes
	BytesUp        uint64  `json:"bytes_up"` // by the interface, since it was made
	BytesDown      uint64  `json:"bytes_down"`
	Probed         bool    `json:"probed"` // the HAG has answered over it
	// FurtherWindow4 and FurtherWindow6 are the initial windows of further subflows, in
	// segments, as learnt so far; 0 without an address.
	FurtherWindow4 int `json:"further_window4"`
	FurtherWindow6 int `json:"further_window6"`
	// Lagging names the directions, as the CPE sees them, in which the path is a backup for now,
	// because it is far slower than the others: sending, receiving.
	Lagging []string `json:"lagging,omitempty"`
	Quota   *Quota   `json:"quota,omitempty"`
	// Encapsulation is the state of the encapsulated way of a path that needs one.
	Encapsulation *Encapsulation `json:"encapsulation,omitempty"`
}

// Encapsulation is the state of the encapsulated way of a path, by which subflows travel in UDP
// datagrams.
type Encapsulation struct {
	State     string `json:"state"` // asked: the HAG has not answered; ready; denied; failed: on this machine
	Reason    string `json:"reason,omitempty"`
	Interface string `json:"interface,omitempty"` // of its subflows
	Subflows  int    `json:"subflows"`            // open now
}

// Quota is the quota of a path or a user in the current period.
type Quota struct {
	Limit uint64    `json:"limit"` // bytes, both directions together
	Used  uint64    `json:"used"`
	Until time.Time `json:"until"` // when the next period begins
}

// Peer is a run of a CPE, as a HAG sees it.
type Peer struct {
	Box     string     `json:"box"`      // drawn at random by each run
	HeardMS int64      `json:"heard_ms"` // how long ago
	Paths   []PeerPath `json:"paths"`
}

// PeerPath is an address from which a CPE probes one of its paths.
type PeerPath struct {
	Index   int        `json:"index"` // of the path at the CPE
	Address netip.Addr `json:"address"`
	HeardMS int64      `json:"heard_ms"`
	State   string     `json:"state"` // up or down, as reported by the CPE
	// FurtherWindow is the initial window of further subflows to it, in segments.
	FurtherWindow int `json:"further_window"`
}
