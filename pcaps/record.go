package pcaps

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/tap"
	"github.com/synbond/synbond/state"
)

// RecorderConfig says what a recorder watches and where it writes.
type RecorderConfig struct {
	Role             core.Role
	Plain, Multipath []string         // the interfaces of each side
	Join             []netip.AddrPort // where this machine takes subflows
	Comment          string           // about each file
	Dir              string           // is created if it is not there
	Files            int              // that Dir may have of this role
	FileSize         int64            // of each at most, in bytes; above that of a packet
	Log              *slog.Logger
}

// Recorder records the handshakes of a running box, in a folder with a bounded
// number of bounded pcapng files:
//
//	box: SYN and decision, outcome, pairing ─┐
//	                                         ├─→ notes ─→ in order of time ─→ scribe ─→ ring
//	tap: what passes the box's interfaces ───┘
//
// SYNs come by the queue, with what was decided about them; all else is seen by a
// tap. A frame is inbound as the box got it, or outbound as it left the box.
//
// What the box tells is copied and handed over without waiting. What finds no
// room is dropped and counted, and so is what cannot be written.
type Recorder struct {
	log   *slog.Logger
	tap   *tap.Tap
	notes chan *note
	pool  sync.Pool
	queue noteQueue
	scribe

	written, dropped atomic.Uint64
	unflushed        uint64    // frames since the ring was flushed
	retry            time.Time // of the ring, after an error
	failing          bool      // and it has been told
}

const (
	// maxNotes is how many wait to be collected, and to be written: some MB, of SYNs and the like.
	maxNotes = 1 << 14
	// collectEvery is how often notes are collected. Nobody waits for a single one,
	// as being woken up costs more, also those who make it, than all else.
	collectEvery = 20 * time.Millisecond
	// window is how long a note waits for what happened before it.
	window = 100 * time.Millisecond
	// flushEvery is how much of a recording a crash may cost.
	flushEvery = time.Second
)

// OpenRecorder begins the first file and the watch. The caller owes a Close.
func OpenRecorder(cfg RecorderConfig) (*Recorder, error) {
	r := &Recorder{log: cfg.Log, notes: make(chan *note, maxNotes), pool: sync.Pool{New: func() any { return new(note) }}}
	r.scribe.init(cfg)
	err := r.ring.find()
	if err == nil {
		err = r.ring.begin(time.Now())
	}
	if err != nil {
		return nil, fmt.Errorf("recording: %w; name another folder with --record", err)
	}
	if r.tap, err = tap.Open(""); err != nil {
		return nil, errors.Join(fmt.Errorf("recording: %w", err), r.ring.close())
	}
	return r, nil
}

// Decided is called by a box.
func (r *Recorder) Decided(d *core.Decision) {
	n := r.note(decided, d.Key)
	n.iface, n.decision = int(d.Packet.Interface), *d
	n.decision.Packet.Data, n.decision.Edited = nil, nil // are the caller's, and the tap sees them leave
	n.packet = append(n.packet, d.Packet.Data...)
	r.hand(n)
}

// Settled is called by a box.
func (r *Recorder) Settled(d *core.Decision) {
	n := r.note(settled, d.Key)
	n.decision = *d
	r.hand(n)
}

// Paired is called by a box.
func (r *Recorder) Paired(key state.Key) { r.hand(r.note(paired, key)) }

// note returns an empty one of now.
func (r *Recorder) note(kind noteKind, key state.Key) *note {
	n := r.pool.Get().(*note)
	*n = note{kind: kind, at: time.Now(), key: key, packet: n.packet[:0]}
	return n
}

// hand gives a note away, or drops it.
func (r *Recorder) hand(n *note) {
	select {
	case r.notes <- n:
	default:
		r.dropped.Add(1)
		r.pool.Put(n)
	}
}

// Run is called by a box. For a moment after ctx has ended it records what
// ends then.
func (r *Recorder) Run(ctx context.Context) error {
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	flush := time.NewTicker(flushEvery)
	defer flush.Stop()
	var over <-chan time.Time
	for ended := ctx.Done(); ; {
		select {
		case <-ended:
			ended, over = nil, time.After(window)
		case <-over:
			r.collect()
			r.play(time.Now())
			r.flush()
			return r.ring.close()
		case now := <-tick.C:
			r.collect()
			r.play(now.Add(-window))
		case <-flush.C:
			r.flush()
		}
	}
}

// collect queues what the box has told and the tap has seen.
func (r *Recorder) collect() {
	for range len(r.notes) {
		heap.Push(&r.queue, <-r.notes)
	}
	for p := (tap.Packet{}); ; {
		if len(r.queue) > maxNotes { // and so many more come at once that the oldest cannot wait
			r.play(r.queue[0].at)
		}
		ok, err := r.tap.Poll(&p)
		if err != nil { // the socket has lost something
			r.dropped.Add(1)
		}
		if !ok {
			break
		}
		n := r.note(seen, state.Key{})
		n.at, n.iface, n.outgoing = p.Time, p.Interface, p.Outgoing
		n.packet = append(n.packet, p.Data...)
		heap.Push(&r.queue, n)
	}
	r.dropped.Add(r.tap.Drops())
}

// play has the scribe write what happened until then.
func (r *Recorder) play(until time.Time) {
	for len(r.queue) > 0 && !r.queue[0].at.After(until) {
		n := heap.Pop(&r.queue).(*note)
		if rec, ok := r.scribe.read(n); ok {
			r.write(rec)
		}
		r.pool.Put(n)
	}
}

// write writes a record. While nothing can be written it tries once a second.
func (r *Recorder) write(rec record) {
	if !r.ring.open && rec.Time.Before(r.retry) {
		r.dropped.Add(1)
		return
	}
	r.unflushed++
	if err := r.ring.write(&rec.Frame, rec.in, rec.comments); err != nil {
		r.fail(err)
		return
	}
	if rec.key != (state.Key{}) {
		r.ring.remember(rec.key)
	}
}

func (r *Recorder) flush() {
	if err := r.ring.flush(); err != nil {
		r.fail(err)
		return
	}
	if r.ring.open && r.failing {
		r.failing = false
		r.log.Info("the recording goes on", "file", r.ring.current())
	}
	r.written.Add(r.unflushed)
	r.unflushed = 0
}

// fail counts what has been lost, and says why, once.
func (r *Recorder) fail(err error) {
	r.dropped.Add(r.unflushed)
	r.unflushed, r.retry = 0, time.Now().Add(flushEvery)
	if !r.failing {
		r.failing = true
		r.log.Warn("cannot record: packets are dropped", "err", err)
	}
}

// File is called by a box.
func (r *Recorder) File(key state.Key) string { return r.ring.file(key) }

// Totals implements [box.Recorder].
func (r *Recorder) Totals() api.RecordingTotals {
	return api.RecordingTotals{Packets: r.written.Load(), Dropped: r.dropped.Load(), File: r.ring.current()}
}

// Close is called by a box.
func (r *Recorder) Close() error { return errors.Join(r.tap.Close(), r.ring.close()) }
