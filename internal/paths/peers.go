package paths

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Bounds of what a HAG remembers of CPEs.
const (
	// peersMost are remembered. The probes of others are answered, but nothing is
	// done about what they report.
	peersMost = 1 << 14
	// peerKept is how long a box is remembered that is not heard of.
	peerKept = time.Minute
	// addressKept is how long an address belongs to the box that was heard from it.
	// While two have one, as they may behind a NAT, its subflows are left alone.
	addressKept = maxIdle + 5*time.Second

	// Subflows of a path that was reported down are looked for that often: those
	// that were being opened at first show up later.
	searches    = 2
	searchPause = time.Second
)

// peers are the boxes with a confirmed address: they have sent a cookie back
// that was sent there. So nobody is heard who names an address of others.
type peers map[uint64]*peer

// peer is one run of a CPE.
type peer struct {
	heard    time.Time
	paths    [MaxPaths][2]origin // each over IPv6 and IPv4
	revision uint32              // of down
	down     uint8               // a bit for each path that is down
	searches uint8               // still to be made for their subflows
	next     time.Time           // when
}

// firstPath is the bit of a CPE's first path among those that are down.
const firstPath = 1

// origin is where the probes of a path come from.
type origin struct {
	addr     netip.Addr
	heard    time.Time
	sequence uint64
}

// origin returns the one that a probe from that address belongs to.
func (p *peer) origin(m message, from netip.Addr) *origin {
	if from.Is4() {
		return &p.paths[m.path][1]
	}
	return &p.paths[m.path][0]
}

// stale tells whether the probe is older than another one that came from its
// box over its path and family: nobody can play one back.
func (ps peers) stale(m message, from netip.Addr) bool {
	p, known := ps[m.box]
	return known && m.sequence <= p.origin(m, from).sequence
}

// confirm takes a probe that is not stale and comes from a confirmed address. It
// reports whether paths have gone down by it.
func (ps peers) confirm(now time.Time, m message, from netip.Addr) (fallen bool) {
	p, known := ps[m.box]
	if !known {
		if len(ps) >= peersMost {
			return false
		}
		p = &peer{revision: m.revision - 1}
		ps[m.box] = p
	}
	p.heard = now
	*p.origin(m, from) = origin{from, now, m.sequence}
	if int32(m.revision-p.revision) <= 0 { // probes overtake each other
		return false
	}
	fallen = m.down&^p.down != 0
	p.revision, p.down = m.revision, m.down
	if fallen {
		p.searches, p.next = searches, now
	}
	return fallen
}

// expire forgets the boxes that are gone.
func (ps peers) expire(now time.Time) {
	maps.DeleteFunc(ps, func(_ uint64, p *peer) bool { return now.Sub(p.heard) > peerKept })
}

// fallen is what subflows to look for: by addresses of CPEs.
type fallen struct {
	down map[netip.Addr]bool // of paths that are down
	// beside are the other addresses of boxes whose first path is down. Their
	// connections' first subflows, which come from clients' addresses, used that.
	beside map[netip.Addr]bool
}

// due returns what to look for now, if anything, and when to ask again.
func (ps peers) due(now time.Time) (f fallen, next time.Time) {
	f = fallen{make(map[netip.Addr]bool), make(map[netip.Addr]bool)}
	next = now.Add(peerKept)
	for box, p := range ps {
		if p.searches == 0 || p.down == 0 {
			continue
		}
		if !p.next.After(now) {
			p.searches--
			p.next = now.Add(searchPause)
			ps.collect(box, p, &f)
		}
		if p.searches > 0 && p.next.Before(next) {
			next = p.next
		}
	}
	return f, next
}

func (ps peers) collect(box uint64, p *peer, f *fallen) {
	for i, families := range p.paths {
		for _, o := range families {
			switch bit := uint8(1) << i; {
			case !o.addr.IsValid() || ps.shared(box, o):
			case p.down&bit != 0:
				f.down[o.addr] = true
			case p.down&firstPath != 0:
				f.beside[o.addr] = true
			}
		}
	}
}

// shared tells whether another box has been heard from the address, too.
func (ps peers) shared(box uint64, o origin) bool {
	for other, p := range ps {
		for _, families := range p.paths {
			for _, its := range families {
				if other != box && its.addr == o.addr && o.heard.Sub(its.heard) < addressKept {
					return true
				}
			}
		}
	}
	return false
}

// doomed tells whether a HAG's subflow uses a path that is down.
func (f *fallen) doomed(s *socket, conn []socket) bool {
	if f.down[s.remote.Addr()] {
		return true
	}
	return !s.join && !f.beside[s.remote.Addr()] &&
		slices.ContainsFunc(conn, func(o socket) bool { return f.beside[o.remote.Addr()] })
}

// Peer is a run of a CPE, as a HAG sees it.
type Peer struct {
	Box   uint64
	Heard time.Time
	Paths []PeerPath
}

// PeerPath is an address over which a CPE was heard.
type PeerPath struct {
	Index int // of the path at the CPE
	Addr  netip.Addr
	Heard time.Time
	Down  bool // the CPE has reported so
}

// list returns the boxes, in the order of their numbers.
func (ps peers) list() []Peer {
	out := make([]Peer, 0, len(ps))
	for box, p := range ps {
		one := Peer{Box: box, Heard: p.heard}
		for i, families := range p.paths {
			for _, o := range families {
				if o.addr.IsValid() {
					one.Paths = append(one.Paths, PeerPath{i, o.addr, o.heard, p.down&(1<<i) != 0})
				}
			}
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b Peer) int { return cmp.Compare(a.Box, b.Box) })
	return out
}
