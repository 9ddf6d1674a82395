package state

import (
	"iter"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// LearntConfig bounds what is learnt. A zero field means its default.
type LearntConfig struct {
	Bits4, Bits6 int           // prefix length of a destination, default 32 and 64
	TTL          time.Duration // default 1 h
	Max          int           // destinations, default 10,000
}

// Learnt remembers which destinations answer with MPTCP, by prefix. When there
// are too many the one learnt first is forgotten. It is safe for concurrent use.
type Learnt struct {
	cfg LearntConfig

	mu      sync.Mutex
	known   map[[16]byte]learnt
	order   []learntAt // oldest first, from index first on
	first   int
	entered uint64
}

type learnt struct {
	capable bool
	expires time.Duration
	serial  uint64 // of the entry in order that speaks of it
}

type learntAt struct {
	key    [16]byte
	serial uint64
}

// withDefaults returns c with every zero field replaced.
func (c LearntConfig) withDefaults() LearntConfig {
	setDefault(&c.Bits4, 32)
	setDefault(&c.Bits6, 64)
	setDefault(&c.TTL, time.Hour)
	setDefault(&c.Max, 10_000)
	return c
}

// NewLearnt returns an empty memory.
func NewLearnt(cfg LearntConfig) *Learnt {
	return &Learnt{cfg: cfg.withDefaults(), known: make(map[[16]byte]learnt)}
}

// Configure replaces the bounds of the memory, for what is learnt from now on. The lengths
// of prefixes stay.
func (l *Learnt) Configure(cfg LearntConfig) {
	l.mu.Lock()
	defer l.mu.Unlock()
	cfg = cfg.withDefaults()
	l.cfg.TTL, l.cfg.Max = cfg.TTL, cfg.Max
	for len(l.known) > l.cfg.Max {
		l.forgetOldest()
	}
}

// prefix returns the prefix by which an address is remembered.
func (l *Learnt) prefix(a netip.Addr) netip.Prefix {
	bits := l.cfg.Bits6
	if a.Is4() {
		bits = l.cfg.Bits4
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// Learn remembers whether the destination answers with MPTCP.
func (l *Learnt) Learn(now time.Duration, a netip.Addr, capable bool) {
	key := l.prefix(a).Addr().As16()
	l.mu.Lock()
	defer l.mu.Unlock()
	e, known := l.known[key]
	if !known {
		if len(l.known) >= l.cfg.Max {
			l.forgetOldest()
		}
		if len(l.order) >= 2*l.cfg.Max {
			l.order, l.first = slices.DeleteFunc(l.order, l.isStale), 0
		}
		l.entered++
		e.serial = l.entered
		l.order = append(l.order, learntAt{key, e.serial})
	}
	e.capable, e.expires = capable, now+l.cfg.TTL
	l.known[key] = e
}

// forgetOldest makes room for one. Places of entries that expired meanwhile are passed over.
func (l *Learnt) forgetOldest() {
	for l.first < len(l.order) {
		at := l.order[l.first]
		l.first++
		if !l.isStale(at) {
			delete(l.known, at.key)
			break
		}
	}
	if l.first > len(l.order)/2 {
		l.order = append(l.order[:0], l.order[l.first:]...)
		l.first = 0
	}
}

// isStale reports whether the entry that has this place in order is gone.
func (l *Learnt) isStale(at learntAt) bool {
	e, known := l.known[at.key]
	return !known || e.serial != at.serial
}

// Known reports whether the destination answers with MPTCP, if that is known.
func (l *Learnt) Known(now time.Duration, a netip.Addr) (capable, known bool) {
	key := l.prefix(a).Addr().As16()
	l.mu.Lock()
	defer l.mu.Unlock()
	e, known := l.known[key]
	if known && now >= e.expires {
		delete(l.known, key)
		return false, false
	}
	return e.capable, known
}

// Len returns how many destinations are remembered, expired ones included.
func (l *Learnt) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.known)
}

// LearntEntry is one destination.
type LearntEntry struct {
	Prefix  netip.Prefix
	Capable bool
	Expires time.Duration // on the clock of [Learnt.Learn]
}

// All yields what is known at time now, in no order.
func (l *Learnt) All(now time.Duration) iter.Seq[LearntEntry] {
	l.mu.Lock()
	defer l.mu.Unlock()
	entries := make([]LearntEntry, 0, len(l.known))
	for key, e := range l.known {
		if now < e.expires {
			entries = append(entries, LearntEntry{l.prefix(netip.AddrFrom16(key).Unmap()), e.capable, e.expires})
		}
	}
	return func(yield func(LearntEntry) bool) {
		for _, e := range entries {
			if !yield(e) {
				return
			}
		}
	}
}
