//go:build linux

package probe

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// headers returns the size of the IP and UDP headers of a probe in bytes.
func headers(a netip.Addr) int {
	if a.Is4() {
		return 20 + 8
	}
	return 40 + 8
}

// checkSizes sends the probes by which the path's probers find out how large packets may
// be, and returns the time of the next ones, if that is before next.
func (m *Monitor) checkSizes(now time.Time, p *path, next time.Time) time.Time {
	every := p.health.SizeInterval(now)
	for _, at := range p.probers {
		if at == nil || !at.extends || !at.confirmed {
			continue
		}
		if size := at.sizes.Due(now, every, p.health.RTT()); size > 0 {
			m.probeSize(now, p, at, size)
		}
		if t, needed := at.sizes.Next(every); needed && t.After(now) && t.Before(next) {
			next = t
		}
	}
	return next
}

// probeSize sends a probe in a packet of that size.
func (m *Monitor) probeSize(now time.Time, p *path, at *prober, size int) {
	p.sequence++
	at.sizes.Sent(p.sequence, size)
	msg := m.message(p, at)
	msg.size = size - headers(at.local)
	switch _, err := at.conn.Write(m.codec.append(m.large[:0], msg)); {
	case errors.Is(err, unix.EMSGSIZE):
		at.sizes.Told(now)
	case err == nil:
		p.health.SentBeside()
	}
}

// limits returns the sizes of the largest packets that the path carries, 0 where full
// size passes or nothing is known.
func (p *path) limits() (limit6, limit4 int) {
	for i, limit := range []*int{&limit6, &limit4} {
		if at := p.probers[i]; at != nil {
			*limit = at.sizes.Limit()
		}
	}
	return limit6, limit4
}
