package nfq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

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
	// Payload starts at the IP header. It is valid after the handler returned.
	Payload []byte
}

// Queue is a bound NFQUEUE. All verdict methods may be called from any goroutine.
type Queue struct {
	cfg    QueueConfig
	nf     *nfqueue.Nfqueue
	errors atomic.Uint64
}

// Open connects to the queue's netlink socket. It binds nothing yet: see [Queue.Start].
func Open(cfg QueueConfig) (*Queue, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	nc := nfqueue.Config{
		NfQueue:      cfg.Number,
		MaxQueueLen:  cfg.MaxLength,
		MaxPacketLen: 0xffff,
		Copymode:     nfqueue.NfQnlCopyPacket,
		Flags:        nfqueue.NfQaCfgFlagFailOpen,
		AfFamily:     unix.AF_UNSPEC,
	}
	if cfg.MetaOnly {
		nc.Copymode = nfqueue.NfQnlCopyMeta
		nc.Flags |= nfqueue.NfQaCfgFlagGSO
	}
	nf, err := nfqueue.Open(&nc)
	if err != nil {
		return nil, fmt.Errorf("open NFQUEUE %d: %w", cfg.Number, err)
	}
	// A lost verdict error or a full buffer must not end the receive loop.
	if err := errors.Join(
		nf.SetOption(netlink.NoENOBUFS, true),
		nf.Con.SetReadBuffer(receiveBuffer),
	); err != nil {
		return nil, errors.Join(fmt.Errorf("set up NFQUEUE %d: %w", cfg.Number, err), nf.Close())
	}
	return &Queue{cfg: cfg, nf: nf}, nil
}

// Start binds the queue and calls handle, from one goroutine, for every packet
// until ctx ends. The handler, or whoever it hands the packet to, owes one verdict.
func (q *Queue) Start(ctx context.Context, handle func(Packet)) error {
	err := q.nf.RegisterWithErrorFunc(ctx, func(a nfqueue.Attribute) int {
		if a.PacketID == nil {
			return 0
		}
		p := Packet{ID: *a.PacketID}
		if a.InDev != nil {
			p.IIF = *a.InDev
		}
		if a.Payload != nil {
			p.Payload = *a.Payload
		}
		handle(p)
		return 0
	}, func(err error) int {
		if ctx.Err() != nil {
			return 1
		}
		// A verdict for a packet that is gone comes back here as ENOENT.
		q.errors.Add(1)
		q.cfg.Log.Debug("queue", "number", q.cfg.Number, "err", err)
		return 0
	})
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("NFQUEUE %d: %w", q.cfg.Number, ErrQueueTaken)
	}
	if err != nil {
		return fmt.Errorf("bind NFQUEUE %d: %w", q.cfg.Number, err)
	}
	return nil
}

// Accept lets the packet go on untouched.
func (q *Queue) Accept(id uint32) error {
	return q.nf.SetVerdict(id, nfqueue.NfAccept)
}

// AcceptUpTo lets every packet that arrived before id, and id itself, go on untouched.
func (q *Queue) AcceptUpTo(id uint32) error {
	return q.nf.SetVerdictBatch(id, nfqueue.NfAccept)
}

// Release lets the packet go on with mark, for the rules to act on.
func (q *Queue) Release(id uint32, mark Mark) error {
	return q.nf.SetVerdictWithOption(id, nfqueue.NfAccept, nfqueue.WithMark(uint32(mark)))
}

// Replace lets payload go on in the packet's place. The kernel does not touch its checksums.
func (q *Queue) Replace(id uint32, payload []byte) error {
	return q.nf.SetVerdictWithOption(id, nfqueue.NfAccept, nfqueue.WithAlteredPacket(payload))
}

// Drop makes the packet vanish.
func (q *Queue) Drop(id uint32) error {
	return q.nf.SetVerdict(id, nfqueue.NfDrop)
}

// Errors counts what the netlink socket reported: verdicts that came too late, mostly.
func (q *Queue) Errors() uint64 { return q.errors.Load() }

// Close unbinds the queue and waits for its goroutine. The kernel drops what is still held.
func (q *Queue) Close() error { return q.nf.Close() }
