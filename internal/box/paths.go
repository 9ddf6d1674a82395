package box

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/synbond/synbond/internal/paths"
)

// Paths is how the paths of a box are, as `synbond paths --json` prints it.
type Paths struct {
	Role      Role      `json:"role"`
	Transport Transport `json:"transport"`
	HAG       *HAGView  `json:"hag,omitempty"` // as a CPE sees it
	Paths     []Path    `json:"paths"`
	// Peers are the CPEs that a HAG has heard of in the last minute.
	Peers []Peer `json:"peers,omitempty"`
}

// Transport is how multipath legs carry bytes, as it was settled when the box started.
type Transport struct {
	CongestionControl string `json:"congestion_control"`
	InitialWindow     int    `json:"initial_window"` // of subflows, in segments
	// ReceiveBuffer and SendBuffer are the smallest, the initial and the largest
	// size in bytes: net.ipv4.tcp_rmem and tcp_wmem.
	ReceiveBuffer [3]int `json:"receive_buffer"`
	SendBuffer    [3]int `json:"send_buffer"`
}

// kernelWindow is the initial window that Linux has of its own, in segments (RFC
// 6928; TCP_INIT_CWND).
const kernelWindow = 10

// transport tells what is configured, and what the kernel has where nothing is.
func (c *Config) transport() (t Transport, err error) {
	t = Transport{
		CongestionControl: c.CongestionControl,
		InitialWindow:     cmp.Or(c.InitialWindow, kernelWindow),
	}
	if t.CongestionControl == "" {
		if t.CongestionControl, err = readSysctl("net/ipv4/tcp_congestion_control"); err != nil {
			return t, err
		}
	}
	if t.ReceiveBuffer, err = readSizes(receiveBuffer); err != nil {
		return t, err
	}
	t.SendBuffer, err = readSizes(sendBuffer)
	return t, err
}

// HAGView is how a CPE sees its HAG.
type HAGView struct {
	State    string `json:"state"`
	Reason   string `json:"reason"`
	SinceMS  int64  `json:"since_ms"` // how long ago that began
	Instance string `json:"instance"` // another after each restart, "" if it was never heard of
}

// Path is how one path is. What no box at a HAG's end can know is left out there.
type Path struct {
	Name      string `json:"name"`
	Interface string `json:"interface"`
	*PathState
}

// PathState is what a CPE knows of one of its paths.
type PathState struct {
	State     string           `json:"state"` // up or down
	Reason    string           `json:"reason"`
	SinceMS   int64            `json:"since_ms"`
	Mode      paths.Mode       `json:"mode"`
	Use       string           `json:"use"`
	Address4  string           `json:"address4"` // "" without one
	Address6  string           `json:"address6"`
	Join      []netip.AddrPort `json:"join"`
	Subflows  int              `json:"subflows"` // open now
	RateUp    uint64           `json:"rate_up"`  // bit/s, of all that the interface carries
	RateDown  uint64           `json:"rate_down"`
	RTTUS     int64            `json:"rtt_us"`   // of probes; 0 if none was answered
	Loss      float64          `json:"loss"`     // share of the last 64 probes
	BytesUp   uint64           `json:"bytes_up"` // by the interface, since it was made
	BytesDown uint64           `json:"bytes_down"`
	Probed    bool             `json:"probed"` // the HAG has answered over it
	// FurtherWindow4 and FurtherWindow6 are the initial windows of further subflows, in
	// segments, as they are learnt; 0 without an address.
	FurtherWindow4 int         `json:"further_window4"`
	FurtherWindow6 int         `json:"further_window6"`
	Quota          *QuotaState `json:"quota,omitempty"`
}

// QuotaState is what is left of a path's quota.
type QuotaState struct {
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
	State   string     `json:"state"` // up or down, as the CPE says
	// FurtherWindow is the initial window of further subflows to it, in segments.
	FurtherWindow int `json:"further_window"`
}

// paths describes the paths as they are now.
func (b *Box) paths() Paths {
	now := time.Now()
	out := Paths{Role: b.cfg.Role, Transport: b.transport}
	for _, p := range b.set.Paths {
		out.Paths = append(out.Paths, Path{Name: p.Name, Interface: p.Interface})
	}
	if b.answerer != nil {
		for _, p := range b.answerer.Peers() {
			out.Peers = append(out.Peers, b.peer(p, now))
		}
	}
	if b.steering == nil {
		return out
	}
	v, counters := b.steering.view.Load(), b.steering.manager.CountersByPath()
	out.HAG = &HAGView{State: v.hag.State.String(), Reason: v.hag.Reason, SinceMS: now.Sub(v.hag.Since).Milliseconds()}
	if v.hag.Instance != 0 {
		out.HAG.Instance = boxID(v.hag.Instance)
	}
	for i, s := range v.statuses {
		at := b.pathState(b.set.Paths[i], s, now)
		at.Use, at.RateUp, at.RateDown, at.Subflows = v.uses[i].String(), v.rates[i].Up, v.rates[i].Down, counters[i].Open
		out.Paths[i].PathState = at
	}
	return out
}

func (b *Box) pathState(p paths.Path, s paths.Status, now time.Time) *PathState {
	out := &PathState{
		State: upOrDown(s.Up), Reason: s.Reason, SinceMS: now.Sub(s.Since).Milliseconds(), Mode: p.Mode,
		Address4: text(s.Addr4), Address6: text(s.Addr6), Join: p.Join,
		FurtherWindow4: b.furtherWindow(s.Addr4, p.Join), FurtherWindow6: b.furtherWindow(s.Addr6, p.Join),
		RTTUS: s.RTT.Microseconds(), Loss: s.Loss, Probed: s.Probed, BytesUp: s.BytesSent, BytesDown: s.BytesReceived,
	}
	if p.Quota.Bytes > 0 {
		out.Quota = &QuotaState{p.Quota.Bytes, b.steering.ledger.Used(p.Name), p.Quota.End(now)}
	}
	return out
}

// furtherWindow is the initial window of a further subflow between an address and
// the one of its family among those at the other end.
func (b *Box) furtherWindow(at netip.Addr, ends []netip.AddrPort) int {
	i := slices.IndexFunc(ends, func(e netip.AddrPort) bool { return e.Addr().BitLen() == at.BitLen() })
	switch {
	case i < 0:
		return 0
	case b.window == nil:
		return kernelWindow
	case b.cfg.Role == HAG:
		return b.window.Further(ends[i].Addr(), at)
	}
	return b.window.Further(at, ends[i].Addr())
}

func (b *Box) peer(p paths.Peer, now time.Time) Peer {
	out := Peer{Box: boxID(p.Box), HeardMS: now.Sub(p.Heard).Milliseconds()}
	for _, at := range p.Paths {
		out.Paths = append(out.Paths, PeerPath{
			at.Index, at.Addr, now.Sub(at.Heard).Milliseconds(), upOrDown(!at.Down), b.furtherWindow(at.Addr, b.cfg.Join),
		})
	}
	return out
}

// boxID shows a number that a box has drawn for itself.
func boxID(n uint64) string { return fmt.Sprintf("%016x", n) }

func upOrDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

// text is an address, or nothing where there is none.
func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
