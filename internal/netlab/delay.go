//go:build linux

package netlab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/synbond/synbond/nfq"
	"golang.org/x/sys/unix"
)

// queueLength is the number of packets that a delay may hold: 3 seconds of 1 Gbit/s.
// Packets in excess are not delayed.
const queueLength = 1 << 18

// handling (ns) is the least time that the delivery to the handler, the timer's
// wake-up and the verdict add to the delay on an idle machine.
const handling = int64(150 * time.Microsecond)

// early (ns): a packet may leave this much before its time when another one is due,
// so that packets close to each other share a verdict and a wake-up.
const early = int64(50 * time.Microsecond)

// delayer holds the packets of one direction for a fixed time. Since the time
// is the same for all, they leave in order of arrival, and one batch verdict
// frees all that are due.
type delayer struct {
	queue *nfq.Queue
	timer *os.File // timerfd: Go's own timers are a millisecond late in an idle process
	delay atomic.Int64
	loss  atomic.Uint64 // bits of a float64

	mu   sync.Mutex // guards held and setting the timer
	held ring
}

// startDelayer delays the packets of one NFQUEUE of the host until ctx ends.
func startDelayer(ctx context.Context, h *Host, number uint16) (*delayer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	d := &delayer{timer: os.NewFile(uintptr(fd), "timerfd")}
	err = h.Do(func() (err error) {
		d.queue, err = nfq.Open(nfq.QueueConfig{Number: number, MaxLength: queueLength, MetaOnly: true})
		return err
	})
	if err != nil {
		return nil, errors.Join(err, d.timer.Close())
	}
	if err := d.queue.Start(ctx, d.arrived); err != nil {
		return nil, errors.Join(err, d.close())
	}
	go d.release()
	return d, nil
}

// close ends the release of packets. The kernel drops the held ones.
func (d *delayer) close() error {
	return errors.Join(d.queue.Close(), d.timer.Close())
}

// arrived adds the packet to the ring with the time at which it may leave, or drops it.
func (d *delayer) arrived(p nfq.Packet) {
	now := monotonic()
	if loss := math.Float64frombits(d.loss.Load()); loss > 0 && rand.Float64() < loss {
		d.queue.Drop(p.ID) //nolint:errcheck // ends with the queue
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	first := d.held.empty()
	d.held.push(heldPacket{id: p.ID, due: now + d.delay.Load() - handling})
	if first {
		d.arm()
	}
}

// release accepts the packets that are due whenever the timer expires.
func (d *delayer) release() {
	var expirations [8]byte
	for {
		if _, err := d.timer.Read(expirations[:]); err != nil {
			return // closed
		}
		d.mu.Lock()
		last, some := d.held.popDue(monotonic() + early)
		d.mu.Unlock()
		if some {
			d.queue.AcceptUpTo(last) //nolint:errcheck // ends with the queue
		}
		d.mu.Lock()
		d.arm()
		d.mu.Unlock()
	}
}

// arm sets the timer to the first packet's time. The caller holds mu.
func (d *delayer) arm() {
	if d.held.empty() {
		return
	}
	// A past time fires at once; zero would disarm.
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(d.held.first().due, 1))}
	raw, err := d.timer.SyscallConn()
	if err != nil {
		return // closed
	}
	raw.Control(func(fd uintptr) { //nolint:errcheck // closed
		err = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &spec, nil)
	})
	if err != nil {
		panic(fmt.Sprintf("timerfd_settime: %v", err)) // no such failure with a valid time
	}
}

// monotonic returns CLOCK_MONOTONIC in nanoseconds, the clock of the timer.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(fmt.Sprintf("clock_gettime: %v", err)) // fails for unknown clocks only
	}
	return ts.Nano()
}

// heldPacket is a packet in the queue and the monotonic time when it may leave.
type heldPacket struct {
	id  uint32
	due int64
}

// ring is a queue of held packets that grows by doubling. Its zero value is empty.
type ring struct {
	slots      []heldPacket // length 0 or a power of two
	head, tail uint32       // the first one, and past the last one, before wrapping
}

func (r *ring) empty() bool { return r.head == r.tail }

func (r *ring) slot(i uint32) *heldPacket { return &r.slots[i&uint32(len(r.slots)-1)] }

func (r *ring) first() *heldPacket { return r.slot(r.head) }

// push appends p. Its time becomes that of the packet before it, if that is later.
func (r *ring) push(p heldPacket) {
	if int(r.tail-r.head) == len(r.slots) {
		r.grow()
	}
	if !r.empty() {
		p.due = max(p.due, r.slot(r.tail-1).due)
	}
	*r.slot(r.tail) = p
	r.tail++
}

func (r *ring) grow() {
	slots := make([]heldPacket, max(64, 2*len(r.slots)))
	n := r.tail - r.head
	for i := range n {
		slots[i] = *r.slot(r.head + i)
	}
	r.slots, r.head, r.tail = slots, 0, n
}

// popDue removes the packets that are due at now, and returns the id of the last of
// them, if there are some.
func (r *ring) popDue(now int64) (id uint32, some bool) {
	for !r.empty() && r.first().due <= now {
		id, some = r.first().id, true
		r.head++
	}
	return id, some
}
