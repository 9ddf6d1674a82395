package pcaps

import (
	"time"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/state"
)

// eventKind is the kind of an [event].
type eventKind uint8

const (
	seen    eventKind = iota // the tap has seen a packet
	decided                  // the box has decided on a packet from the queue
	settled                  // the box has given the verdict on a held SYN
	paired                   // the client has completed its handshake
)

// event is one message to a recorder, from the box or the tap.
type event struct {
	kind     eventKind
	at       time.Time
	iface    int    // interface index, of seen and decided
	outgoing bool   // direction, of seen
	packet   []byte // of seen and decided; the event owns the memory
	key      state.Key
	decision core.Decision // of decided and settled, without its packets
}

// eventQueue is a heap of events, the oldest first.
type eventQueue []*event

// Len implements [sort.Interface].
func (q eventQueue) Len() int { return len(q) }

// Less implements [sort.Interface].
func (q eventQueue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }

// Swap implements [sort.Interface].
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements [heap.Interface].
func (q *eventQueue) Push(ev any) { *q = append(*q, ev.(*event)) }

// Pop implements [heap.Interface].
func (q *eventQueue) Pop() any {
	last := len(*q) - 1
	ev := (*q)[last]
	(*q)[last], *q = nil, (*q)[:last]
	return ev
}
