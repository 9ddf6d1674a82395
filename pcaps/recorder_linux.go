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

// RecorderConfig is the configuration of a [Recorder].
type RecorderConfig struct {
	Role             core.Role
	Plain, Multipath []string         // names of the interfaces of each side
	Join             []netip.AddrPort // addresses at which this machine accepts subflows
	Comment          string           // of each file
	Dir              string           // created if missing
	Files            int              // largest number of files of this role in Dir
	FileSize         int64            // largest size of a file, in bytes; [LeastFileSize] at least
	Log              *slog.Logger
}

// Recorder records the handshakes of a running box, in a folder with a bounded
// number of bounded pcapng files:
//
//	box: SYN and decision, outcome, pairing ─┐
//	                                         ├─→ events ─→ in order of time ─→ encoder ─→ ring
//	tap: packets on the box's interfaces ────┘
//
// SYNs come from the queue, with the decision; all other packets come from a tap. Inbound
// frames are those that the box received, outbound frames those that it sent.
//
// The methods for the box copy their arguments and do not block. A full channel of events
// drops the event, and a failed write loses frames; the Recorder counts both.
type Recorder struct {
	log    *slog.Logger
	tap    *tap.Tap
	events chan *event
	pool   sync.Pool
	queue  eventQueue
	encoder

	written, dropped atomic.Uint64
	unflushed        uint64    // frames since the last flush of the ring
	retry            time.Time // of the next write, after an error
	failing          bool      // an error has been logged
}

const (
	// maxEvents bounds the events in the channel, and those in the queue: a few MB in all.
	maxEvents = 1 << 14
	// collectInterval is the time between two looks at the channel and the tap. Waking up
	// for each single event would cost more time than the recording, of the box's
	// goroutines too.
	collectInterval = 20 * time.Millisecond
	// reorderDelay is the time for which an event waits for earlier ones.
	reorderDelay = 100 * time.Millisecond
	// flushInterval is the longest part of a recording that a crash loses.
	flushInterval = time.Second
)

// OpenRecorder begins the first file and opens the tap. The caller must call Close.
func OpenRecorder(cfg RecorderConfig) (*Recorder, error) {
	r := &Recorder{log: cfg.Log, events: make(chan *event, maxEvents), pool: sync.Pool{New: func() any { return new(event) }}}
	r.encoder.init(cfg)
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

// Decided records a packet from the queue with its decision. The box keeps d and its
// packets.
func (r *Recorder) Decided(d *core.Decision) {
	ev := r.newEvent(decided, d.Key)
	ev.iface, ev.decision = int(d.Packet.Interface), *d
	ev.decision.Packet.Data, ev.decision.Edited = nil, nil // the tap will see the edited packet
	ev.packet = append(ev.packet, d.Packet.Data...)
	r.send(ev)
}

// Settled records the verdict on a held SYN. The box keeps d.
func (r *Recorder) Settled(d *core.Decision) {
	ev := r.newEvent(settled, d.Key)
	ev.decision = *d
	r.send(ev)
}

// Paired records that a client has completed its handshake.
func (r *Recorder) Paired(key state.Key) { r.send(r.newEvent(paired, key)) }

// newEvent returns an event with the present time.
func (r *Recorder) newEvent(kind eventKind, key state.Key) *event {
	ev := r.pool.Get().(*event)
	*ev = event{kind: kind, at: time.Now(), key: key, packet: ev.packet[:0]}
	return ev
}

// send sends an event to Run, or drops it if the channel is full.
func (r *Recorder) send(ev *event) {
	select {
	case r.events <- ev:
	default:
		r.dropped.Add(1)
		r.pool.Put(ev)
	}
}

// Run records until ctx ends, and for reorderDelay more: the end of the box ends
// connections.
func (r *Recorder) Run(ctx context.Context) error {
	tick := time.NewTicker(collectInterval)
	defer tick.Stop()
	flush := time.NewTicker(flushInterval)
	defer flush.Stop()
	var over <-chan time.Time
	for ended := ctx.Done(); ; {
		select {
		case <-ended:
			ended, over = nil, time.After(reorderDelay)
		case <-over:
			r.collect()
			r.process(time.Now())
			r.flush()
			return r.ring.close()
		case now := <-tick.C:
			r.collect()
			r.process(now.Add(-reorderDelay))
		case <-flush.C:
			r.flush()
		}
	}
}

// collect moves the events of the box and the packets of the tap to the queue.
func (r *Recorder) collect() {
	for range len(r.events) {
		heap.Push(&r.queue, <-r.events)
	}
	for p := (tap.Packet{}); ; {
		if len(r.queue) > maxEvents { // full: the oldest event cannot wait
			r.process(r.queue[0].at)
		}
		ok, err := r.tap.Poll(&p)
		if err != nil { // the socket has lost packets
			r.dropped.Add(1)
		}
		if !ok {
			break
		}
		ev := r.newEvent(seen, state.Key{})
		ev.at, ev.iface, ev.outgoing = p.Time, p.Interface, p.Outgoing
		ev.packet = append(ev.packet, p.Data...)
		heap.Push(&r.queue, ev)
	}
	r.dropped.Add(r.tap.Drops())
}

// process encodes and writes the queued events up to a time.
func (r *Recorder) process(until time.Time) {
	for len(r.queue) > 0 && !r.queue[0].at.After(until) {
		ev := heap.Pop(&r.queue).(*event)
		if rec, ok := r.encode(ev); ok {
			r.write(rec)
		}
		r.pool.Put(ev)
	}
}

// write writes a record. After an error it drops records for a second.
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

// fail counts the lost frames, and logs the first of several errors.
func (r *Recorder) fail(err error) {
	r.dropped.Add(r.unflushed)
	r.unflushed, r.retry = 0, time.Now().Add(flushInterval)
	if !r.failing {
		r.failing = true
		r.log.Warn("cannot record: packets are dropped", "err", err)
	}
}

// File returns the path of the newest file with the handshake of a flow, or "".
func (r *Recorder) File(key state.Key) string { return r.ring.file(key) }

// Totals returns the numbers of written and dropped packets, and the current file.
func (r *Recorder) Totals() api.RecordingTotals {
	return api.RecordingTotals{Packets: r.written.Load(), Dropped: r.dropped.Load(), File: r.ring.current()}
}

// Close closes the tap and the current file. Run must have returned, or never be called.
func (r *Recorder) Close() error { return errors.Join(r.tap.Close(), r.ring.close()) }
