//go:build linux

package probe

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/synbond/synbond/internal/paths"
)

// Limits of a HAG's memory of CPEs.
const (
	// maxPeers is the number of CPEs that are remembered. The responder replies to
	// the probes of others, but does not act on their reports.
	maxPeers = 1 << 14
	// peerTimeout is the time without a probe after which a CPE is forgotten.
	peerTimeout = time.Minute
	// addressTimeout is the time without a probe after which an address no longer
	// belongs to a CPE. While two CPEs share an address, as they may behind a NAT,
	// its subflows are left alone.
	addressTimeout = paths.MaxProbeIdle + 5*time.Second

	// The subflows of a path that was reported down are searched for that often:
	// subflows that were just being opened show up later.
	searches       = 2
	searchInterval = time.Second
)

// peers are the CPEs with a confirmed address, by their box numbers: they have
// returned a cookie that was sent there. So nobody is heard who forges the address
// of others. The type has no clock, and is for one goroutine at a time.
type peers map[uint64]*peer

// peer is one run of a CPE.
type peer struct {
	heard    time.Time
	paths    [paths.MaxPaths][2]origin // each over IPv6 and IPv4
	revision uint32                    // of down
	down     uint8                     // a bit for each path that is down
	searches uint8                     // searches for their subflows that are left
	next     time.Time                 // the next one
}

// firstPath is the bit of a CPE's first path among the paths that are down.
const firstPath = 1

// origin is the address from which a CPE probes a path.
type origin struct {
	addr     netip.Addr
	inner    netip.Addr // of the path's encapsulated subflows; the zero Addr without any
	index    int        // of the interface by which they come in
	heard    time.Time
	sequence uint64
}

// origin returns the origin of a probe from that address.
func (p *peer) origin(m message, from netip.Addr) *origin {
	if from.Is4() {
		return &p.paths[m.path][1]
	}
	return &p.paths[m.path][0]
}

// stale reports whether the probe is no newer than another one of its box over the
// same path and family: then somebody may have played it back.
func (ps peers) stale(m message, from netip.Addr) bool {
	p, known := ps[m.box]
	return known && m.sequence <= p.origin(m, from).sequence
}

// confirm takes a probe that is not stale and comes from a confirmed address. It
// reports whether more paths are down than before, and whether the address is new to
// this run of the CPE.
func (ps peers) confirm(now time.Time, m message, from netip.Addr) (moreDown, arrived bool) {
	p, known := ps[m.box]
	if !known {
		if len(ps) >= maxPeers {
			return false, false
		}
		p = &peer{revision: m.revision - 1}
		ps[m.box] = p
	}
	p.heard = now
	at := p.origin(m, from)
	arrived = at.addr != from
	*at = origin{addr: from, heard: now, sequence: m.sequence}
	if int32(m.revision-p.revision) <= 0 { // probes overtake each other
		return false, arrived
	}
	moreDown = m.down&^p.down != 0
	p.revision, p.down = m.revision, m.down
	if moreDown {
		p.searches, p.next = searches, now
	}
	return moreDown, arrived
}

// note notes the interface of a probe that confirm has taken, and the inner address of its path.
func (ps peers) note(m message, from netip.Addr, index int, inner netip.Addr) {
	if p, known := ps[m.box]; known {
		o := p.origin(m, from)
		o.index, o.inner = index, inner
	}
}

// expire forgets the CPEs that have not been heard of for long.
func (ps peers) expire(now time.Time) {
	maps.DeleteFunc(ps, func(_ uint64, p *peer) bool { return now.Sub(p.heard) > peerTimeout })
}

// failedPaths are the CPEs' addresses on paths that are down.
type failedPaths struct {
	down map[netip.Addr]bool
	// others are the other addresses of CPEs whose first path is down. The first
	// subflows of their connections, which come from clients' addresses, used that path.
	others map[netip.Addr]bool
}

// due returns the addresses whose subflows are to be searched for now, and the time
// of the next call.
func (ps peers) due(now time.Time) (f failedPaths, next time.Time) {
	f = failedPaths{make(map[netip.Addr]bool), make(map[netip.Addr]bool)}
	next = now.Add(peerTimeout)
	for box, p := range ps {
		if p.searches == 0 || p.down == 0 {
			continue
		}
		if !p.next.After(now) {
			p.searches--
			p.next = now.Add(searchInterval)
			ps.collect(box, p, &f)
		}
		if p.searches > 0 && p.next.Before(next) {
			next = p.next
		}
	}
	return f, next
}

func (ps peers) collect(box uint64, p *peer, f *failedPaths) {
	for i, families := range p.paths {
		for _, o := range families {
			switch bit := uint8(1) << i; {
			case !o.addr.IsValid() || ps.shared(box, o):
			case p.down&bit != 0:
				// Two lines may have one address, that of a NAT in front of both.
				o.enter(f.down, !p.works(o.addr))
			case p.down&firstPath != 0:
				o.enter(f.others, true)
			}
		}
	}
}

// works reports whether an address is that of a path that is not down.
func (p *peer) works(a netip.Addr) bool {
	for i, families := range p.paths {
		if p.down&(1<<i) == 0 && (families[0].addr == a || families[1].addr == a) {
			return true
		}
	}
	return false
}

// enter enters the addresses from which subflows of the path start: that of the datagrams, if
// outer is set, and that within them.
func (o origin) enter(all map[netip.Addr]bool, outer bool) {
	if outer {
		all[o.addr] = true
	}
	if o.inner.IsValid() {
		all[o.inner] = true
	}
}

// shared reports whether another CPE has been heard from the address, too.
func (ps peers) shared(box uint64, o origin) bool {
	for other, p := range ps {
		for _, families := range p.paths {
			for _, its := range families {
				if other != box && its.addr == o.addr && o.heard.Sub(its.heard) < addressTimeout {
					return true
				}
			}
		}
	}
	return false
}

// matches reports whether a subflow of the HAG uses a path that is down. It is a
// [paths.SubflowMatch].
func (f *failedPaths) matches(s *paths.Subflow, connection []paths.Subflow) bool {
	if f.down[s.Remote.Addr()] {
		return true
	}
	return !s.Joined && !f.others[s.Remote.Addr()] &&
		slices.ContainsFunc(connection, func(o paths.Subflow) bool { return f.others[o.Remote.Addr()] })
}

// Peer is one run of a CPE, as a HAG sees it.
type Peer struct {
	Box   uint64 // drawn at random by each run
	Heard time.Time
	Paths []PeerPath
}

// PeerPath is an address from which a CPE probes one of its paths.
type PeerPath struct {
	Index     int // of the path at the CPE
	Addr      netip.Addr
	Interface int // the index of the one by which its probes come in, 0 if unknown
	Heard     time.Time
	Down      bool // reported by the CPE
}

// Missing reports whether the CPE cannot be heard over the path any more, as far as is known.
func (p PeerPath) Missing(now time.Time) bool { return p.Down || now.Sub(p.Heard) > addressTimeout }

// list returns the CPEs in the order of their numbers.
func (ps peers) list() []Peer {
	out := make([]Peer, 0, len(ps))
	for box, p := range ps {
		one := Peer{Box: box, Heard: p.heard}
		for i, families := range p.paths {
			for _, o := range families {
				if o.addr.IsValid() {
					one.Paths = append(one.Paths, PeerPath{i, o.addr, o.index, o.heard, p.down&(1<<i) != 0})
				}
			}
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b Peer) int { return cmp.Compare(a.Box, b.Box) })
	return out
}
