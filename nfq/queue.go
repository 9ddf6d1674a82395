package nfq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	nfqueue "github.com/florianl/go-nfqueue/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ErrQueueTaken means that another process listens on the queue.
var ErrQueueTaken = errors.New("queue is taken by another process")

// receiveBuffer of the netlink socket in bytes: a burst of some 10,000 SYNs.
const receiveBuffer = 16 << 20

// QueueConfig describes one NFQUEUE.
type QueueConfig struct {
	Number uint16
	// MaxLength is how many packets the kernel keeps without a verdict.
	// What arrives beyond goes on untouched (NFQA_CFG_F_FAIL_OPEN).
	MaxLength uint32
	// MetaOnly leaves the payload in the kernel and keeps GSO packets whole.
	MetaOnly bool
	// Log gets errors of the receive loop; nil discards them.
	Log *slog.Logger
}

// Packet is one queued packet that waits for its verdict.
type Packet struct {
	ID  uint32 // of this queue, in order of arrival, for the verdict
	IIF uint32 // interface index by which it arrived, 0 if none
	// Payload starts at the IP header. It is valid until the handler returns.
	Payload []byte
}

// Queue is a bound NFQUEUE. All verdict methods may be called from any goroutine.
type Queue struct {
	cfg     QueueConfig
	nf      *nfqueue.Nfqueue
	raw     syscall.RawConn // of the same socket
	done    sync.WaitGroup
	letters sync.Pool // *letter
	errors  atomic.Uint64
}

// Open connects to the queue's netlink socket. It binds nothing yet: see [Queue.Start].
func Open(cfg QueueConfig) (*Queue, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	nf, err := nfqueue.Open(&nfqueue.Config{NfQueue: cfg.Number})
	if err != nil {
		return nil, fmt.Errorf("open NFQUEUE %d: %w", cfg.Number, err)
	}
	q := &Queue{cfg: cfg, nf: nf}
	q.letters.New = func() any { return newLetter() }
	// A lost verdict error or a full buffer must not end the receive loop.
	err = errors.Join(nf.SetOption(netlink.NoENOBUFS, true), nf.Con.SetReadBuffer(receiveBuffer))
	if err == nil {
		q.raw, err = nf.Con.SyscallConn()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up NFQUEUE %d: %w", cfg.Number, err), nf.Close())
	}
	return q, nil
}

// Start binds the queue and calls handle, from one goroutine, for every packet
// until ctx ends. The handler, or whoever it hands the packet to, owes one verdict.
func (q *Queue) Start(ctx context.Context, handle func(Packet)) error {
	// The library binds, too, but then reads with two system calls and some 50
	// allocations per packet (docs/adr/0011-queue-loop.md).
	_, err := q.nf.Con.Execute(netlink.Message{
		Header: netlink.Header{Type: msgConfig, Flags: netlink.Request | netlink.Acknowledge},
		Data:   q.cfg.bind(),
	})
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("NFQUEUE %d: %w", q.cfg.Number, ErrQueueTaken)
	}
	if err != nil {
		return fmt.Errorf("bind NFQUEUE %d: %w", q.cfg.Number, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = q.nf.Con.SetReadDeadline(time.Unix(1, 0)) })
	q.done.Go(func() {
		defer stop()
		q.receive(handle)
		// From now on the rules let packets pass, and what is held is dropped.
		l := newLetter()
		l.message = unbind(q.cfg.Number)
		_ = q.post(l) // closing does it as well
	})
	return nil
}

// receive hands on what the kernel queues until the socket's deadline has passed.
func (q *Queue) receive(handle func(Packet)) {
	in := newInbox(q.cfg.MetaOnly)
	n := 0
	read := func(fd uintptr) bool {
		var errno unix.Errno
		n, errno = in.receive(fd)
		if errno != 0 && errno != unix.EAGAIN && errno != unix.EINTR {
			q.failed(errno)
		}
		return n > 0
	}
	for {
		if err := q.raw.Read(read); err != nil {
			return // the deadline, or closed
		}
		for i := range n {
			parse(in.message(i), handle, q.failed)
		}
	}
}

// failed counts what the netlink socket reports. A verdict for a packet that is
// gone comes back as ENOENT.
func (q *Queue) failed(errno unix.Errno) {
	q.errors.Add(1)
	q.cfg.Log.Debug("queue", "number", q.cfg.Number, "err", errno)
}

// Accept lets the packet go on untouched.
func (q *Queue) Accept(id uint32) error {
	return q.send(verdict{kind: msgVerdict, id: id, verdict: nfqueue.NfAccept})
}

// AcceptUpTo lets every packet that arrived before id, and id itself, go on untouched.
func (q *Queue) AcceptUpTo(id uint32) error {
	return q.send(verdict{kind: msgVerdictBatch, id: id, verdict: nfqueue.NfAccept})
}

// Release lets the packet go on with mark, for the rules to act on.
func (q *Queue) Release(id uint32, mark Mark) error {
	return q.send(verdict{kind: msgVerdict, id: id, verdict: nfqueue.NfAccept, mark: mark})
}

// Replace lets payload go on in the packet's place. The kernel does not touch its checksums.
func (q *Queue) Replace(id uint32, payload []byte) error {
	return q.send(verdict{kind: msgVerdict, id: id, verdict: nfqueue.NfAccept, payload: payload})
}

// Drop makes the packet vanish.
func (q *Queue) Drop(id uint32) error {
	return q.send(verdict{kind: msgVerdict, id: id, verdict: nfqueue.NfDrop})
}

// send gives a verdict. The kernel acts on it before it returns.
func (q *Queue) send(v verdict) error {
	l := q.letters.Get().(*letter)
	defer q.letters.Put(l)
	l.message = v.append(l.message, q.cfg.Number)
	return q.post(l)
}

// post sends a message.
func (q *Queue) post(l *letter) error {
	// Not Write, by which goroutines would wait for each other: the kernel takes
	// messages from all at once, and always has room for them.
	if err := q.raw.Control(l.write); err != nil {
		return err
	}
	return l.err
}

// letter is a message on its way to the kernel. It is used again.
type letter struct {
	message []byte
	err     error
	write   func(fd uintptr) // as [syscall.RawConn.Control] takes it
}

func newLetter() *letter {
	l := new(letter)
	l.write = func(fd uintptr) {
		// The released packet goes its way within the call. That takes time, but
		// does not block: Go's scheduler would give the processor to others.
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, fd,
			uintptr(unsafe.Pointer(unsafe.SliceData(l.message))), uintptr(len(l.message)), 0, 0, 0)
		if l.err = nil; errno != 0 {
			l.err = errno
		}
	}
	return l
}

// Errors counts what the netlink socket reported: verdicts that came too late, mostly.
func (q *Queue) Errors() uint64 { return q.errors.Load() }

// Close unbinds the queue and waits for its goroutine. The kernel drops what is still held.
func (q *Queue) Close() error {
	err := q.nf.Con.SetReadDeadline(time.Unix(1, 0))
	q.done.Wait()
	return errors.Join(err, q.nf.Close())
}
