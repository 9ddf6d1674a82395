//go:build linux

// Package nfqtest has a double of the queue of package nfq, at the level of packets:
// a test puts packets in, and looks at the verdicts that come out.
package nfqtest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/synbond/synbond/nfq"
)

// Verdict is the verdict on one packet.
type Verdict struct {
	Drop   bool
	Mark   nfq.Mark // with which it goes on, 0 for none
	Packet []byte   // that goes on in its place, nil for itself
}

// Queue is a double of [nfq.Queue]. It holds every packet until its verdict, and fails
// the test when a packet gets two verdicts, or a verdict is about no packet.
type Queue struct {
	t      testing.TB
	handle func(nfq.Packet)

	mu       sync.Mutex
	next     uint32
	held     map[uint32]bool
	verdicts map[uint32]Verdict
}

// NewQueue returns an empty queue which hands its packets to handle. At the end of
// the test no packet may be held any more.
func NewQueue(t testing.TB, handle func(nfq.Packet)) *Queue {
	q := &Queue{t: t, handle: handle, held: make(map[uint32]bool), verdicts: make(map[uint32]Verdict)}
	t.Cleanup(func() {
		for _, id := range q.Held() {
			t.Errorf("packet %d never got its verdict", id)
		}
	})
	return q
}

// Put queues a packet that came in by an interface, and returns its ID.
func (q *Queue) Put(iif uint32, packet []byte) uint32 {
	q.mu.Lock()
	q.next++
	id := q.next
	q.held[id] = true
	q.mu.Unlock()
	q.handle(nfq.Packet{ID: id, IIF: iif, Payload: packet})
	return id
}

// Held returns the packets without a verdict.
func (q *Queue) Held() []uint32 {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []uint32
	for id := range q.held {
		out = append(out, id)
	}
	return out
}

// Verdict returns the verdict on a packet, and whether it has one.
func (q *Queue) Verdict(id uint32) (Verdict, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	v, ok := q.verdicts[id]
	return v, ok
}

func (q *Queue) give(id uint32, v Verdict) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.held[id] {
		q.t.Errorf("packet %d is not held, and gets the verdict %+v", id, v)
		return fmt.Errorf("no packet %d", id)
	}
	delete(q.held, id)
	q.verdicts[id] = v
	return nil
}

// Accept lets a packet go on untouched.
func (q *Queue) Accept(id uint32) error { return q.give(id, Verdict{}) }

// Drop makes a packet vanish.
func (q *Queue) Drop(id uint32) error { return q.give(id, Verdict{Drop: true}) }

// Replace lets another packet go on in the place of one.
func (q *Queue) Replace(id uint32, packet []byte) error { return q.give(id, Verdict{Packet: packet}) }

// Release lets a packet go on with a mark.
func (q *Queue) Release(id uint32, mark nfq.Mark) error { return q.give(id, Verdict{Mark: mark}) }

// Errors returns 0: the double fails the test instead.
func (q *Queue) Errors() uint64 { return 0 }
