//go:build linux

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

// socketBuffer is the receive buffer of the netlink socket, in bytes: a burst of some
// 10,000 SYNs.
const socketBuffer = 16 << 20

// QueueConfig describes one NFQUEUE.
type QueueConfig struct {
	Number uint16
	// MaxLength is the number of packets that the kernel keeps without a verdict. It
	// lets further ones pass untouched (NFQA_CFG_F_FAIL_OPEN).
	MaxLength uint32
	// MetaOnly leaves the payload in the kernel and keeps GSO packets whole.
	MetaOnly bool
	// Reinject loops released SYNs over lo by a socket of the process, for kernels
	// without `dup` in nftables: see [Loops].
	Reinject bool
	// Log gets errors of the receive loop; nil discards them.
	Log *slog.Logger
}

// Packet is a queued packet without a verdict.
type Packet struct {
	ID uint32 // for the verdict; increases in order of arrival
	// IIF and OIF are the indexes of the interfaces at which the packet arrived and by
	// which it is to leave, 0 if none.
	IIF, OIF uint32
	Mark     uint32
	// Payload starts at the IP header. It is valid until the handler returns.
	Payload []byte
}

// Queue is a bound NFQUEUE. All verdict methods may be called from any goroutine.
type Queue struct {
	cfg      QueueConfig
	nf       *nfqueue.Nfqueue
	raw      syscall.RawConn // of the same socket
	done     sync.WaitGroup
	requests sync.Pool // *request
	errors   atomic.Uint64
	again    *reinjector // nil if the kernel loops released SYNs
}

// Open opens the queue's netlink socket. [Queue.Start] binds the queue.
func Open(cfg QueueConfig) (*Queue, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	nf, err := nfqueue.Open(&nfqueue.Config{NfQueue: cfg.Number})
	if err != nil {
		return nil, fmt.Errorf("open NFQUEUE %d: %w", cfg.Number, err)
	}
	q := &Queue{cfg: cfg, nf: nf}
	q.requests.New = func() any { return newRequest() }
	// A lost verdict error or a full buffer must not end the receive loop.
	err = errors.Join(nf.SetOption(netlink.NoENOBUFS, true), nf.Con.SetReadBuffer(socketBuffer))
	if err == nil {
		q.raw, err = nf.Con.SyscallConn()
	}
	if err == nil && cfg.Reinject {
		q.again, err = newReinjector()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up NFQUEUE %d: %w", cfg.Number, err), nf.Close())
	}
	return q, nil
}

// Start binds the queue and calls handle, from one goroutine, for every packet
// until ctx ends. Each packet needs exactly one verdict, from the handler or later.
func (q *Queue) Start(ctx context.Context, handle func(Packet)) error {
	// The library's own loop takes two system calls and some 50 allocations per packet
	// (docs/adr/0011-queue-loop.md).
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
		// After this the rules let packets pass, and the kernel drops the held ones.
		r := newRequest()
		r.message = unbind(q.cfg.Number)
		_ = q.post(r) // closing the socket unbinds as well
	})
	return nil
}

// receive calls handle for the packets of the queue until the socket's deadline passes.
func (q *Queue) receive(handle func(Packet)) {
	messages := newReceiver(q.cfg.MetaOnly)
	n := 0
	read := func(fd uintptr) bool {
		var errno unix.Errno
		n, errno = messages.receive(fd)
		if errno != 0 && errno != unix.EAGAIN && errno != unix.EINTR {
			q.failed(errno)
		}
		return n > 0
	}
	take := handle
	if q.again != nil {
		take = func(p Packet) { q.again.keep(p); handle(p) }
	}
	for {
		if err := q.raw.Read(read); err != nil {
			return // the deadline, or closed
		}
		for i := range n {
			parse(messages.message(i), take, q.failed)
		}
	}
}

// failed counts an error from the netlink socket. A verdict for a packet that the
// kernel no longer holds gives ENOENT.
func (q *Queue) failed(errno unix.Errno) {
	q.errors.Add(1)
	q.cfg.Log.Debug("queue", "number", q.cfg.Number, "err", errno)
}

// Accept lets the packet pass untouched.
func (q *Queue) Accept(id uint32) error {
	return q.send(verdict{kind: msgVerdict, id: id, verdict: nfqueue.NfAccept})
}

// AcceptUpTo lets packet id and all held packets that arrived before it pass untouched.
func (q *Queue) AcceptUpTo(id uint32) error {
	return q.send(verdict{kind: msgVerdictBatch, id: id, verdict: nfqueue.NfAccept})
}

// Release lets the packet pass with a mark, on which the rules act.
func (q *Queue) Release(id uint32, mark Mark) error {
	if q.again != nil && (mark == ToPlain || mark == ToPaths) {
		packet := q.again.take(id)
		return errors.Join(q.Drop(id), q.again.send(packet, mark))
	}
	return q.send(verdict{kind: msgVerdict, id: id, verdict: nfqueue.NfAccept, mark: mark})
}

// Replace lets payload pass in place of the packet. The kernel does not correct its checksums.
func (q *Queue) Replace(id uint32, payload []byte) error {
	return q.send(verdict{kind: msgVerdict, id: id, verdict: nfqueue.NfAccept, payload: payload})
}

// Drop discards the packet.
func (q *Queue) Drop(id uint32) error {
	return q.send(verdict{kind: msgVerdict, id: id, verdict: nfqueue.NfDrop})
}

// send gives a verdict. The kernel has acted on it when send returns.
func (q *Queue) send(v verdict) error {
	if q.again != nil {
		q.again.take(v.id)
	}
	r := q.requests.Get().(*request)
	defer q.requests.Put(r)
	r.message = v.append(r.message, q.cfg.Number)
	return q.post(r)
}

// post sends a request to the kernel.
func (q *Queue) post(r *request) error {
	// Control instead of Write: goroutines that write wait for each other, but the
	// kernel takes messages from several at once, and always has room for them.
	if err := q.raw.Control(r.write); err != nil {
		return err
	}
	return r.err
}

// request is a message to the kernel and the result of sending it. Requests are reused.
type request struct {
	message []byte
	err     error
	write   func(fd uintptr) // for [syscall.RawConn.Control]
}

func newRequest() *request {
	r := new(request)
	r.write = func(fd uintptr) {
		// The kernel forwards the released packet within the call. That takes time but
		// does not block, so the Go scheduler need not know of the call.
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, fd,
			uintptr(unsafe.Pointer(unsafe.SliceData(r.message))), uintptr(len(r.message)), 0, 0, 0)
		if r.err = nil; errno != 0 {
			r.err = errno
		}
	}
	return r
}

// Errors returns the number of errors from the netlink socket, mostly verdicts that came
// too late.
func (q *Queue) Errors() uint64 { return q.errors.Load() }

// Close unbinds the queue and waits for its goroutine. The kernel drops the packets that
// have no verdict yet.
func (q *Queue) Close() error {
	err := q.nf.Con.SetReadDeadline(time.Unix(1, 0))
	q.done.Wait()
	if q.again != nil {
		err = errors.Join(err, q.again.close())
	}
	return errors.Join(err, q.nf.Close())
}
