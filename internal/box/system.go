//go:build linux

package box

import (
	"cmp"
	"net/netip"
	"runtime"
	"slices"

	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/mptcp"
	"github.com/synbond/synbond/internal/paths"
)

// enabled: the machine's sockets speak MPTCP.
var enabled = host.Sysctl{Key: "net/mptcp/enabled", Value: "1"}

// early is early demux. With it the kernel would match packets of a passed connection
// with what it keeps of a closed one, TIME-WAIT in a client's name, and then not
// forward them (ip_forward drops what has a socket). It must hold after a crash,
// too, so it is a setting and no rule.
var early = host.Sysctl{Key: "net/ipv4/tcp_early_demux", Value: "0", Optional: true}

// blackhole is the detection of paths that drop MP_CAPABLE (since Linux 6.12). With it
// one server that answers only its fourth SYN would switch MPTCP off for every
// connection of the box, for an hour. The core remembers such paths by destination.
var blackhole = host.Sysctl{Key: "net/mptcp/blackhole_timeout", Value: "0", Optional: true}

// unchecked switches MPTCP's checksums off (RFC 8684, section 3.3). A gateway that changes
// bytes on a line, as it does for FTP and SIP, then acts as without a box. With checksums,
// after a change on the only subflow of a connection, Linux 6.18 falls back to TCP and
// delivers the same bytes again and again.
var unchecked = host.Sysctl{Key: "net/mptcp/checksum_enabled", Value: "0", Optional: true}

// noJoinBack sets the C flag (RFC 8684, section 3.1): no joins to the address at this end of
// a connection. At a HAG that is the server's, at a CPE that of a customer's host.
var noJoinBack = host.Sysctl{Key: "net/mptcp/allow_join_initial_addr_port", Value: "0"}

// looseLoopback lets packets with the addresses of other machines in by lo, where the box
// loops released SYNs itself. Those that the kernel loops bring their route along.
var looseLoopback = host.Sysctl{Key: "net/ipv4/conf/lo/rp_filter", Value: "2", Optional: true}

// mtuProbing has TCP send shorter segments once it has sent long ones in vain for several
// timeouts (RFC 4821). It is for connections that have one subflow only, on a path that
// begins to lose large packets: the MSS of a running subflow stays as it is.
var mtuProbing = host.Sysctl{Key: "net/ipv4/tcp_mtu_probing", Value: "1", Optional: true}

// sysctls of each role, restored when the box stops.
var sysctls = map[Role][]host.Sysctl{
	CPE: {
		enabled,
		// The box opens the subflows, not the kernel.
		{Key: "net/mptcp/pm_type", Value: "1"},
		noJoinBack, blackhole, early, unchecked,
	},
	HAG: {
		enabled,
		{Key: "net/mptcp/pm_type", Value: "0"},
		noJoinBack, blackhole, early, unchecked,
	},
	// Clients join at the address to which they have connected.
	Gateway: {
		enabled,
		{Key: "net/mptcp/pm_type", Value: "0"},
		blackhole, unchecked,
	},
}

// buffers are the least buffer sizes for multipath legs; sockets of the plain side start
// with the machine's own. A sender may at first have half of the initial receive buffer
// in flight, which must not be less than what the lines hold. The largest send buffer
// must hold the bytes in flight on the longest line, twice for the kernel's own needs.
var buffers = map[string][3]int{
	host.ReceiveBuffer: {0, 8 << 20, 16 << 20},
	host.SendBuffer:    {0, 0, 16 << 20},
}

// widen gives subflows their initial window. What the kernel refuses costs speed
// of short transfers, not more.
func (b *Box) widen(undo *undo) {
	if b.cfg.InitialWindow == 0 {
		return
	}
	w, err := mptcp.OpenWindow(b.cfg.InitialWindow)
	if err != nil {
		b.cfg.Log.Info("subflows begin with the kernel's initial window", "err", err)
		b.cfg.InitialWindow = 0
		return
	}
	b.window = w
	undo.add(w.Close)
}

// limitSegments prepares to pass a client's MSS on where the kernel refuses the socket
// option for it. Without, connections are relayed with the MSS of their route.
func (b *Box) limitSegments(undo *undo) {
	if mptcp.TakesSegmentSize() == nil {
		return
	}
	s, err := mptcp.OpenSegments()
	if err != nil {
		b.cfg.Log.Warn("relayed connections get the MSS of their route, not their client's: the kernel refuses TCP_MAXSEG on MPTCP sockets; an MSS clamp does not apply to them", "err", err)
		return
	}
	b.segments = s
	undo.add(s.Close)
}

// installSystem sets what the whole machine shares: loopback, sysctls, and on a
// HAG the join addresses. The journal remembers what was there before.
func (b *Box) installSystem(undo *undo) error {
	j, err := host.OpenJournal(b.cfg.Control, func() (host.PathManager, error) { return mptcp.Open() })
	if err != nil {
		return err
	}
	b.journal = j
	undo.add(j.Restore)
	b.families = host.Families()
	if b.pathManager, err = mptcp.Open(); err != nil {
		return err
	}
	undo.add(b.pathManager.Close)
	if err := j.SetLoopbackUp(); err != nil {
		return err
	}
	for _, s := range sysctls[b.cfg.Role] {
		if err := j.SetSysctl(s); err != nil {
			return err
		}
	}
	if v, err := host.ReadSysctl(mtuProbing.Key); err == nil && v == "0" {
		if err := j.SetSysctl(mtuProbing); err != nil {
			return err
		}
	}
	was, err := host.ReadSizes(host.ReceiveBuffer)
	if err != nil {
		return err
	}
	b.plainBuffer = was[1]
	for key, least := range buffers {
		if err := j.RaiseSizes(key, least); err != nil {
			return err
		}
	}
	if b.cfg.Role != CPE {
		return b.installJoins(j)
	}
	return nil
}

// filesBeside is the number of descriptors of a box beside those of its flows. A loop of
// the relay has eight.
var filesBeside = 192 + 16*runtime.NumCPU()

// raiseFileLimit makes room for two descriptors per flow, and lowers the number
// of flows where that is not to be had: a flow too many is passed, one that
// lacks a descriptor later would be broken.
func (c *Config) raiseFileLimit() (short bool, err error) {
	beside := filesBeside
	if c.Gateway.Serves() {
		beside += c.Table.MaxHalfOpen // clients that have not asked yet
	}
	want := uint64(2*c.Table.MaxFlows + beside)
	limit, err := host.RaiseFileLimit(want)
	if err != nil || limit >= want {
		return false, err
	}
	c.Table.MaxFlows = max(1, (int(limit)-beside)/2)
	return true, nil
}

// installJoins makes the kernel accept joins, as many as a CPE may have paths.
func (b *Box) installJoins(j *host.Journal) error {
	if err := b.raiseLimits(); err != nil {
		return err
	}
	for _, addr := range b.joinsInOrder() {
		if err := j.RecordJoin(addr); err != nil {
			return err
		}
		if err := b.pathManager.AddEndpoint(addr); err != nil {
			return err
		}
	}
	return nil
}

// joinsInOrder returns the join addresses, IPv6 first. Clients rely on this order of
// announcements: see [paths.Planner.Announced].
func (b *Box) joinsInOrder() []netip.AddrPort {
	return slices.SortedStableFunc(slices.Values(b.cfg.Join), func(a, b netip.AddrPort) int {
		return cmp.Compare(b.Addr().BitLen(), a.Addr().BitLen())
	})
}

// raiseLimits raises the limits of the kernel's path manager as a HAG needs them.
func (b *Box) raiseLimits() error {
	limits, err := b.pathManager.Limits()
	if err != nil || limits.Subflows >= paths.MaxPaths {
		return err
	}
	want := paths.SubflowLimits{Subflows: paths.MaxPaths, Announcements: limits.Announcements}
	if err := b.journal.RecordLimits(limits, want); err != nil {
		return err
	}
	return b.pathManager.SetLimits(want)
}
