package paths

import (
	"math"
	"net/netip"
	"slices"
	"time"
)

// A path that is far slower than the others can cost more than it carries. The kernel's
// scheduler gives a subflow bytes by its pacing rate, which is far too large for a new
// subflow and, with a large queue on the line, for long. Bytes that arrive over the other
// paths wait at the receiver for those of the slow one, until its window is full
// (head-of-line blocking). A planner sees that as bytes that wait, and makes the slow path a
// backup in that direction, for the connections that carry most in that direction.
const (
	// waitLimit is the wait that a path may cost which carries one part in lagShares of the
	// bytes, or less; one that carries more may cost proportionally more. To it are added
	// twice the difference of the round trips: paths that are far cost some.
	waitLimit = 125 * time.Millisecond
	lagShares = 16
	// lagMemory is the time constant with which the bytes of the past count.
	lagMemory = time.Second
	// lagSamples in a row must exceed the limit.
	lagSamples = 2
	// lagHold and briefHold are the first times for which a path is a backup: briefHold for
	// one that carries more than one part in lagBrief, perhaps after an interruption. Each
	// further time within lagAgain times the last one takes twice as long, up to lagMost.
	lagHold   = 30 * time.Second
	briefHold = 2 * time.Second
	lagBrief  = 8
	lagAgain  = 2
	lagMost   = 5 * time.Minute
	// leastBytes is the number of bytes that a subflow must have delivered: nothing waits for
	// one that has got none.
	leastBytes = 3000
	// stallLooks is the number of looks at a connection after it has last carried bytes:
	// while bytes wait, the sender may be able to send nothing.
	stallLooks = 40
)

// Direction is the direction of bytes, seen from this end of a connection.
type Direction uint8

const (
	Sent Direction = iota
	Received
	directions
)

func (d Direction) String() string { return [...]string{"sending", "receiving"}[d] }

// Progress is a snapshot of a connection.
type Progress struct {
	Subflows []SubflowProgress
	// Waiting is the number of bytes that the other end has received but that wait for an
	// earlier byte.
	Waiting uint64
	// InOrder is the number of bytes received in order, Buffered the memory in bytes of those
	// received but not read.
	InOrder, Buffered uint64
}

// SubflowProgress is the progress of one subflow.
type SubflowProgress struct {
	Local     netip.AddrPort
	Delivered [directions]uint64 // bytes acknowledged, and received
	MinRTT    time.Duration
}

// Metered is a [Traffic] that can be measured. It may take system calls.
type Metered interface {
	Progress() (Progress, bool)
}

// lag is the state of a path in one direction.
type lag struct {
	until time.Duration // it is a backup until then; 0 if it is none
	held  time.Duration // for how long it was one the last time
	freed time.Duration // when that ended
}

// meter measures a connection.
type meter struct {
	at     time.Duration // of the last sample, 0 for none
	carry  uint64        // bytes carried at the last look
	looks  int           // left, without further bytes
	last   [MaxPaths][directions]uint64
	recent [MaxPaths][directions]float64 // bytes, older ones count less
	span   [MaxPaths]float64             // seconds for which recent counts
	known  [MaxPaths]bool                // there is a subflow, and last is of it
	base   int64                         // bytes that all subflows have received beyond those in order, while none waited
	over   [directions]uint8             // samples in a row that exceeded the limit
	settle [directions]bool              // bytes still wait for a path that is a backup by now
}

// Watched is a connection to be measured.
type Watched struct {
	Token   uint32
	Metered Metered
}

// watchInterval is the time between two looks at the large connections. Measuring one
// takes some 10 µs.
func (p *Planner) watchInterval() time.Duration {
	return max(25*time.Millisecond, time.Duration(len(p.watched))*time.Millisecond/2)
}

// restInterval is the least time between two looks while no large connection carries bytes.
const restInterval = 100 * time.Millisecond

// Watches reports whether there are large connections.
func (p *Planner) Watches() bool { return len(p.watched) > 0 }

// Watch returns the connections that carry large transfers, have more than one subflow and
// have carried bytes lately, and the time until the next Watch: 0 for none while there are no
// large connections, see [Planner.Watches].
func (p *Planner) Watch() (out []Watched, next time.Duration) {
	kept := p.watched[:0]
	for _, c := range p.watched {
		m, metered := c.traffic.(Metered)
		if c.gone || !metered {
			continue
		}
		kept = append(kept, c)
		c.meter.looks--
		if n := c.traffic.BytesUp() + c.traffic.BytesDown(); n != c.meter.carry {
			c.meter.carry, c.meter.looks = n, stallLooks
		}
		if c.meter.looks > 0 && c.open() > 1 {
			out = append(out, Watched{c.token, m})
		}
	}
	clear(p.watched[len(kept):])
	p.watched = kept
	switch {
	case len(kept) == 0:
		return nil, 0
	case len(out) == 0:
		return nil, max(restInterval, p.watchInterval())
	}
	return out, p.watchInterval()
}

// open returns the number of open subflows.
func (c *connection) open() (n int) {
	for i := range c.subflows {
		if c.subflows[i].phase == open {
			n++
		}
	}
	return n
}

// Observe takes a snapshot of a connection. If a path costs more than it carries, it becomes
// a backup.
func (p *Planner) Observe(now time.Duration, token uint32, pr Progress) {
	c := p.conns[token]
	if c == nil || c.subflows == nil || now <= c.meter.at {
		return
	}
	p.miss(now, c, &pr)
	m := &c.meter
	first := m.at == 0
	arrived, rtts := m.sample(c, now, &pr)
	if first {
		return
	}
	if d := m.larger(); d != c.direction {
		c.direction = d
		p.queue(c)
	}
	waiting := [directions]uint64{pr.Waiting, m.waiting(&pr, arrived)}
	p.judge(now, c, c.direction, waiting[c.direction], rtts)
}

// sample adds a snapshot to the meter. It returns the bytes that all subflows have received,
// and the shortest round trip of each path.
func (m *meter) sample(c *connection, now time.Duration, pr *Progress) (received uint64, rtts [MaxPaths]time.Duration) {
	took := (now - m.at).Seconds()
	keep := math.Exp(-took / lagMemory.Seconds())
	seen := [MaxPaths]bool{}
	for _, s := range pr.Subflows {
		received += s.Delivered[Received]
		i := c.at(s.Local)
		if i < 0 {
			continue
		}
		seen[i], rtts[i] = true, s.MinRTT
		for d := range directions {
			if m.known[i] {
				m.recent[i][d] = m.recent[i][d]*keep + float64(s.Delivered[d]-min(m.last[i][d], s.Delivered[d]))
			}
			m.last[i][d] = s.Delivered[d]
		}
		if m.known[i] {
			m.span[i] = m.span[i]*keep + took
		}
		m.known[i] = true
	}
	for i := range seen {
		if !seen[i] {
			m.known[i], m.recent[i], m.span[i] = false, [directions]float64{}, 0
		}
	}
	m.at = now
	return received, rtts
}

// at returns the path of the open subflow with that local end, or -1.
func (c *connection) at(local netip.AddrPort) int {
	return slices.IndexFunc(c.subflows, func(s plannedSubflow) bool { return s.phase == open && s.local == local })
}

// larger returns the direction with more bytes.
func (m *meter) larger() Direction {
	var sum [directions]float64
	for i := range m.recent {
		for d, n := range m.recent[i] {
			sum[d] += n
		}
	}
	if sum[Sent] > sum[Received] {
		return Sent
	}
	return Received
}

// waiting returns the number of received bytes that wait for an earlier one. What subflows
// have received twice, or before they left, is in base.
func (m *meter) waiting(pr *Progress, received uint64) uint64 {
	const little = 64 << 10
	beyond := int64(received - pr.InOrder)
	if pr.InOrder == 0 || pr.Buffered < little || beyond < m.base {
		m.base = beyond
	}
	return min(uint64(beyond-m.base), pr.Buffered)
}

// judge finds the path that costs more than it carries.
func (p *Planner) judge(now time.Duration, c *connection, d Direction, waiting uint64, rtts [MaxPaths]time.Duration) {
	m, slowest, normal := &c.meter, -1, 0
	var rates [MaxPaths]float64 // bytes/s
	var sum float64
	least := time.Duration(math.MaxInt64)
	for i := range c.subflows {
		if c.subflows[i].phase != open || c.desired(i, p.effective[c.direction]) != Normal {
			continue
		}
		normal++
		if m.recent[i][d] < leastBytes {
			continue
		}
		rates[i] = m.recent[i][d] / m.span[i]
		sum += rates[i]
		least = min(least, rtts[i])
		if slowest < 0 || rates[i] < rates[slowest] {
			slowest = i
		}
	}
	if normal < 2 || slowest < 0 {
		m.over[d] = 0
		return
	}
	share := rates[slowest] / sum
	wait := time.Duration(float64(waiting) / sum * float64(time.Second))
	limit := waitLimit + 2*(rtts[slowest]-least)
	m.settle[d] = m.settle[d] && wait > limit
	limit = time.Duration(float64(limit) * max(1, share*lagShares))
	if wait <= limit || m.settle[d] {
		m.over[d] = 0
		return
	}
	if m.over[d]++; m.over[d] < lagSamples {
		return
	}
	m.over[d], m.settle[d] = 0, true
	c.subflows[slowest].renew = true
	p.demote(now, slowest, d, share, wait)
}

// demote makes a path a backup in one direction, for a while.
func (p *Planner) demote(now time.Duration, i int, d Direction, share float64, wait time.Duration) {
	l := &p.lags[i][d]
	hold := lagHold
	if share > 1./lagBrief {
		hold = briefHold
	}
	if l.held > 0 && now-l.freed < lagAgain*l.held {
		hold = min(max(hold, 2*l.held), lagMost)
	}
	l.until, l.held = now+hold, hold
	p.log.Info("a path that is far slower than the others is a backup for now", "path", p.set.Paths[i].Name,
		"direction", d, "share", math.Round(share*1000)/1000, "wait", wait.Round(time.Millisecond), "for", hold)
	p.affect()
}

// leaveSlow has what is queued on the first path of a large connection go by the others, if
// that path lags.
func (p *Planner) leaveSlow(c *connection) {
	if c.subflows != nil && (c.large || c.policy.After > 0) {
		c.subflows[c.first].renew = p.lags[c.first][c.direction].until != 0
	}
}

// release ends the time for which paths are backups.
func (p *Planner) release(now time.Duration) {
	changed := false
	for i := range p.lags {
		for d := range p.lags[i] {
			if l := &p.lags[i][d]; l.until != 0 && now >= l.until {
				l.until, l.freed, changed = 0, now, true
			}
		}
	}
	if changed {
		p.affect()
	}
}

// affect computes the desired states of each direction, and queues all connections.
func (p *Planner) affect() {
	p.effect()
	for _, c := range p.conns {
		p.queue(c)
	}
}

// effect computes the desired states of each direction. A path that lags is no backup where
// no other could be used.
func (p *Planner) effect() {
	for d := range directions {
		p.effective[d] = slices.Clone(p.desired)
		for i, s := range p.desired {
			if s == Normal && p.lags[i][d].until != 0 {
				p.effective[d][i] = Backup
			}
		}
		if !slices.Contains(p.effective[d], Normal) {
			copy(p.effective[d], p.desired)
		}
	}
}

// nextRelease returns the time until [Planner.release] has something to do.
func (p *Planner) nextRelease(now time.Duration) time.Duration {
	wait := time.Hour
	for i := range p.lags {
		for _, l := range p.lags[i] {
			if l.until != 0 {
				wait = min(wait, max(l.until-now, 0))
			}
		}
	}
	return wait
}

// Lagging returns the directions in which each path is a backup for now because it is far
// slower than the others.
func (p *Planner) Lagging() [][]Direction {
	out := make([][]Direction, len(p.lags))
	for i := range p.lags {
		for d := range directions {
			if p.lags[i][d].until != 0 {
				out[i] = append(out[i], d)
			}
		}
	}
	return out
}
