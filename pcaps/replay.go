package pcaps

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"time"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// Config is the configuration of the box for a [Replay].
type Config struct {
	// Role determines the side on which a SYN enters if its interface has no known side:
	// the plain side for a CPE, the multipath side for a HAG. Without a role, a SYN with
	// MP_CAPABLE or MP_JOIN enters on the multipath side, and other SYNs on the plain side.
	Role         core.Role
	Plain, Paths []string // names of the interfaces on each side; may be empty
	// Join holds the addresses at which the box's machine itself accepts subflows. The box
	// does not decide on SYNs to them.
	Join     []netip.AddrPort
	Policy   *core.Policy
	Table    state.Config
	Learnt   state.LearntConfig
	MaxFlows int // largest number of flows in the report, the first ones; default 10,000
	// Anonymized gets each frame of the capture as an [Anonymizer] changes it, unless it is
	// nil. Replay does not flush it.
	Anonymized *Writer
	anonymizer *Anonymizer // nil for a new one
	// Decided is called with each decision, unless it is nil. An error ends the replay.
	Decided func(Decision) error
	// Progress is called every 1,024 packets with their number so far, unless it is nil.
	Progress func(packets int)
}

// replay is one run of [Replay].
type replay struct {
	cfg    Config
	core   *core.Core
	learns bool
	in     *Reader
	out    *Writer // or nil

	anonymizer *Anonymizer

	completer
	acts       []core.Action      // of the last event
	waiting    map[uint32]waiting // by the packet's ID
	wakes      []time.Duration    // when the core wants a tick, the earliest first
	interfaces []captureInterface // by index of the interface
	tracks     tracks
	tokens     map[uint32]tokenOwner
	unread     map[kind]uint64
	now, tick  time.Duration // since the first frame: the clock, the time of the last tick
	maxTicks   int           // ticks after which every waiting flow has expired

	// Of the current frame.
	seg    rewrite.Segment
	isCopy bool // an earlier frame has the same packet, on its way into the box

	report Report
}

// Replay passes the packets of a capture, with their times, to the same code that decides in
// a box. It writes the packets that the box would have sent to out, unless out is nil. The
// report covers all packets read, even with an error: one of the reader other than io.EOF,
// of the writer, of ctx, or of [Config.Decided].
func Replay(ctx context.Context, in *Reader, out *Writer, cfg Config) (*Report, error) {
	if cfg.MaxFlows == 0 {
		cfg.MaxFlows = 10_000
	}
	r := &replay{
		cfg: cfg, core: core.New(core.Config{Table: cfg.Table, Learnt: cfg.Learnt, Policy: cfg.Policy}),
		learns: cfg.Policy.Learns(), waiting: make(map[uint32]waiting),
		in: in, out: out, tracks: newTracks(), tokens: make(map[uint32]tokenOwner), unread: make(map[kind]uint64),
	}
	if r.anonymizer = cfg.anonymizer; r.anonymizer == nil {
		r.anonymizer = NewAnonymizer()
	}
	r.report.Totals.Verdicts, r.report.Totals.Unread = make(map[string]uint64), make(map[string]uint64)
	timeouts := cfg.Table.WithDefaults()
	r.maxTicks = int(max(timeouts.Dial, timeouts.HalfOpen)/core.ExpireEvery) + 1
	err := r.run(ctx)
	if out != nil {
		err = errors.Join(err, out.Flush())
	}
	for k, n := range r.unread {
		r.report.Totals.Unread[k.String()] = n
	}
	r.report.Totals.Damaged = in.Damage().Records
	totals := r.core.Totals()
	t := &r.report.Totals
	t.SpanUS, t.Entered, t.Reasons, t.Rules = r.now.Microseconds(), totals.EnteredByName(), totals.ReasonsByName(), totals.Rules
	t.Learnt = r.core.LearntLen()
	return &r.report, err
}

func (r *replay) run(ctx context.Context) error {
	for {
		f, err := r.in.Next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case f.Number%1024 == 0:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if r.cfg.Progress != nil {
				r.cfg.Progress(f.Number)
			}
		}
		if err := r.anonymize(f); err != nil {
			return err
		}
		if err := r.frame(f); err != nil {
			return err
		}
	}
}

// anonymize writes a frame for others to read, if that is wanted.
func (r *replay) anonymize(f *Frame) error {
	if r.cfg.Anonymized == nil {
		return nil
	}
	in := r.iface(f)
	return r.cfg.Anonymized.Write(r.anonymizer.Frame(f, in.LinkType), r.anonymizer.Interface(in))
}

// frame handles the next frame.
func (r *replay) frame(f *Frame) error {
	if err := r.clock(f.Time); err != nil {
		return err
	}
	t := &r.report.Totals
	t.Packets++
	t.Bytes += uint64(len(f.Data))
	r.isCopy = false
	packet := r.complete(f)
	r.countUnread(f.unread)
	if packet == nil {
		t.NotIP++
		return r.pass(f)
	}
	if f.Missing() > 0 {
		t.Cut++
	}
	if err := r.seg.Parse(packet); err != nil {
		return r.unparsed(f, err)
	}
	return r.segment(f, packet)
}

// maxKinds bounds the kinds of frames that are counted by name.
const maxKinds = 256

// countUnread counts a frame that is not read, or not read to the end.
func (r *replay) countUnread(k kind) {
	switch {
	case k.name == "":
	case r.unread[k] == 0 && len(r.unread) >= maxKinds:
		r.unread[kind{name: "other kinds"}]++
	default:
		r.unread[k]++
	}
}

// maxSpan bounds the clock: a file may have any times, and sums of times must not overflow.
const maxSpan = 100 * 365 * 24 * time.Hour

// clock advances to the time of a frame, with a tick of the core at each interval in
// between. Like the clock of a box, it never goes back.
func (r *replay) clock(at time.Time) error {
	t := &r.report.Totals
	if t.Packets == 0 {
		t.Start = at.UTC()
	}
	now := max(-maxSpan, min(at.Sub(t.Start), maxSpan))
	if late := r.now - now; late > 0 {
		t.Late++
		t.LateUS = max(t.LateUS, late.Microseconds())
	}
	r.now = max(r.now, now)
	for ticks := r.maxTicks; ; {
		next := r.tick + core.ExpireEvery
		wake := len(r.wakes) > 0 && r.wakes[0] <= next
		if wake {
			next = r.wakes[0]
		}
		switch {
		case next > r.now:
			return nil
		case wake:
			r.wakes = r.wakes[1:]
		case r.tracks.waiting == 0 || ticks == 0: // no flow waits: skip the other ticks
			r.tick, next = r.now, r.now
		default:
			r.tick = next
			ticks--
		}
		if err := r.elapse(next); err != nil {
			return err
		}
	}
}

// elapse ticks the core at a time, and handles its actions.
func (r *replay) elapse(now time.Duration) error {
	acts := r.core.Tick(nil, now)
	var errs []error
	for _, a := range acts {
		switch {
		case a.Kind == core.Wake:
			r.wakes = append(r.wakes, a.At)
		case a.Kind == core.Expired:
			if t := r.tracks.byKey(a.Key); t != nil {
				r.sync(t)
			}
		case a.Kind == core.Decide && a.Decision.Settles:
			errs = append(errs, r.gaveUp(now, a.Decision))
		case a.Kind == core.Decide && a.Decision.Packet.Data != nil:
			errs = append(errs, r.waited(now, a.Decision))
		}
	}
	return errors.Join(errs...)
}

// gaveUp handles the decision on a held SYN after the timeout of its dial.
func (r *replay) gaveUp(now time.Duration, d core.Decision) error {
	c := cause{at: now, in: noAnswer}
	t := r.tracks.byKey(d.Key)
	if t == nil {
		return r.decided(c, d, "")
	}
	held := t.held
	t.held = nil
	if d.Verdict != core.Accept || held == nil {
		return r.decided(c, d, "")
	}
	t.verdict = core.Accept
	r.sync(t)
	return errors.Join(r.decided(c, d, "SYN → server"), r.passDecided(held, d))
}

// waited handles the decision on a SYN that has waited for the end of another flow.
func (r *replay) waited(now time.Duration, d core.Decision) error {
	w := r.waiting[d.Packet.ID]
	delete(r.waiting, d.Packet.ID)
	if err := r.seg.Parse(w.packet); err != nil {
		return err
	}
	m, _ := r.seg.MPTCP() // valid: the core has decided on it
	frameTime := r.now
	r.now, r.isCopy = now, false
	defer func() { r.now = frameTime }()
	return r.decidedSYN(w.frame, r.tracks.of(&r.seg), m, d, w.packet)
}

// unparsed handles a packet that is not a whole TCP segment.
func (r *replay) unparsed(f *Frame, why error) error {
	if why == rewrite.NotTCP {
		if report, ok := parseICMP(f.Packet()); ok {
			return r.icmp(f, report)
		}
		return r.pass(f)
	}
	const flagsOffset = 13
	packet := f.Packet()
	protocol, at, ok := transport(packet)
	if !ok || protocol != protocolTCP || len(packet) <= at+flagsOffset {
		return r.pass(f)
	}
	flags := rewrite.Flags(packet[at+flagsOffset])
	if !r.diverted(flags) {
		return r.pass(f)
	}
	r.seg.Src, r.seg.Dst = endpoints(packet, at)
	r.seg.Flags = flags
	return r.unreadable(f)
}

// diverted reports whether the rules of a box send a packet with these flags to the queue
// (nfq.Rules).
func (r *replay) diverted(flags rewrite.Flags) bool {
	switch flags & (rewrite.SYN | rewrite.ACK | rewrite.FIN | rewrite.RST) {
	case rewrite.SYN:
		return true
	case rewrite.SYN | rewrite.ACK:
		return r.learns
	}
	return false
}

// segment handles a TCP segment, completed to its length on the wire.
func (r *replay) segment(f *Frame, packet []byte) error {
	seg := &r.seg
	t := r.tracks.of(seg)
	if t != nil {
		if r.isCopy = r.findCopy(f, t); !r.isCopy {
			t.count(seg)
		}
	}
	const special = rewrite.SYN | rewrite.RST | rewrite.FIN
	cut := len(packet)-len(seg.Payload) > len(f.Packet()) // in the TCP header
	if seg.Flags&special == 0 {
		if t == nil {
			return r.pass(f)
		}
		return r.ack(f, t, cut)
	}
	switch {
	case seg.IsSYN() && cut:
		return r.unreadable(f)
	case seg.IsSYN():
		return r.syn(f, t, withChecksum(seg, packet, f.Missing()))
	case seg.IsSYNACK() && cut:
		tcp := headerAt(seg, len(packet))
		packet = f.Packet()
		seg.Options = packet[min(tcp+tcpSize, len(packet)):]
		return r.synack(f, t, packet, cut)
	case seg.IsSYNACK():
		return r.synack(f, t, withChecksum(seg, packet, f.Missing()), cut)
	case t != nil && seg.Flags&rewrite.RST != 0:
		return r.rst(f, t)
	case t != nil && seg.Flags&rewrite.FIN != 0:
		return r.fin(f, t, cut)
	}
	return r.pass(f)
}
