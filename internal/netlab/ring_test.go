//go:build linux

package netlab

import "testing"

func TestRingKeepsOrderWhateverTheDelays(t *testing.T) {
	var r ring
	r.head, r.tail = ^uint32(0)-10, ^uint32(0)-10 // soon to wrap
	next, out := uint32(0), uint32(0)
	for round := range 50 {
		for i := range 40 {
			// Every third packet asks to leave before its predecessors.
			r.push(heldPacket{id: next, due: int64(round*100 + i - 50*(i%3/2))})
			next++
		}
		if id, some := r.popDue(int64(round*100 - 80)); some {
			if id < out || id >= next {
				t.Fatalf("popped %d, which is not among those held, %d to %d", id, out, next)
			}
			out = id + 1
		}
		if !r.empty() && r.first().id != out {
			t.Fatalf("first is %d, want %d", r.first().id, out)
		}
	}
	if id, some := r.popDue(1 << 60); !some || id != next-1 || !r.empty() {
		t.Fatalf("last popped is %d, %v, want %d and an empty ring", id, some, next-1)
	}
	if _, some := r.popDue(1 << 60); some {
		t.Error("popped from an empty ring")
	}
}
