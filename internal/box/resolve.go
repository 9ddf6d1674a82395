//go:build linux

package box

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Times and bounds of the resolution of names.
const (
	// resolutionDelay is the time in which an answer with IPv6 addresses may be later than one
	// with IPv4 addresses, and still come first (RFC 8305, section 3).
	resolutionDelay = 50 * time.Millisecond
	lookupTimeout   = 10 * time.Second
	// freshFor and absentFor are the times for which addresses, and their absence, are remembered.
	freshFor, absentFor = 10 * time.Second, time.Second
	mostNames           = 4096 // remembered, by family
	mostLookups         = 512  // at once, by family
)

// resolver finds the addresses of names, by the machine's own settings.
type resolver struct {
	lookup func(ctx context.Context, network, name string) ([]netip.Addr, error)
	now    func() time.Time

	mu      sync.Mutex
	answers map[question]answer
	asked   map[question][]func([]netip.Addr) // who wait for a lookup
}

// question is a name with a network: ip6 or ip4.
type question struct{ network, name string }

// answer is a lookup's result.
type answer struct {
	addrs []netip.Addr
	until time.Time
}

func newResolver() *resolver {
	r := net.Resolver{PreferGo: true}
	return &resolver{
		lookup: r.LookupNetIP, now: time.Now,
		answers: make(map[question]answer), asked: make(map[question][]func([]netip.Addr)),
	}
}

// resolve finds the addresses of a name: it calls found once or twice, at once or later from
// another goroutine. A name without addresses has none.
func (r *resolver) resolve(name string, found func(addrs []netip.Addr, last bool)) {
	s := &resolution{found: found}
	r.find(question{"ip6", name}, func(a []netip.Addr) { s.take(a, true) })
	r.find(question{"ip4", name}, func(a []netip.Addr) { s.take(a, false) })
}

// resolution is the pending lookup of a name for one client.
type resolution struct {
	found func(addrs []netip.Addr, last bool)

	mu     sync.Mutex // held while found is called, so that the last call is the last
	other  bool       // the other family's answer has come
	early4 []netip.Addr
	delay  *time.Timer
}

// take takes the answer for a family.
func (s *resolution) take(addrs []netip.Addr, is6 bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.other && !is6 && len(addrs) > 0:
		s.early4 = addrs
		s.delay = time.AfterFunc(resolutionDelay, s.goAhead)
	case s.other:
		all := slices.Concat(addrs, s.early4) // the answers belong to all who ask
		s.early4 = nil
		if s.delay != nil {
			s.delay.Stop()
		}
		s.found(all, true)
	case len(addrs) > 0:
		s.found(addrs, false)
	}
	s.other = true
}

// goAhead gives up waiting for the IPv6 addresses to come first.
func (s *resolution) goAhead() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.early4 != nil {
		s.found(s.early4, false)
		s.early4 = nil
	}
}

// find finds the addresses of one family: none if the lookup fails.
func (r *resolver) find(q question, then func([]netip.Addr)) {
	r.mu.Lock()
	known, ok := r.answers[q]
	if ok = ok && r.now().Before(known.until); ok {
		r.mu.Unlock()
		then(known.addrs)
		return
	}
	waiting, underWay := r.asked[q]
	full := !underWay && len(r.asked) >= 2*mostLookups
	if !full {
		r.asked[q] = append(waiting, then)
	}
	r.mu.Unlock()
	switch {
	case full:
		then(nil)
	case !underWay:
		go r.ask(q)
	}
}

// ask looks a name up, and tells all who wait.
func (r *resolver) ask(q question) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	addrs, err := r.lookup(ctx, q.network, q.name)
	if err != nil {
		addrs = nil
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	r.mu.Lock()
	r.remember(q, addrs)
	waiting := r.asked[q]
	delete(r.asked, q)
	r.mu.Unlock()
	for _, then := range waiting {
		then(addrs)
	}
}

// remember keeps an answer for a while.
func (r *resolver) remember(q question, addrs []netip.Addr) {
	now, lasts := r.now(), freshFor
	if len(addrs) == 0 {
		lasts = absentFor
	}
	if len(r.answers) >= 2*mostNames {
		for old, a := range r.answers {
			if !now.Before(a.until) {
				delete(r.answers, old)
			}
		}
		if len(r.answers) >= 2*mostNames {
			clear(r.answers)
		}
	}
	r.answers[q] = answer{addrs, now.Add(lasts)}
}
