//go:build linux

package netlab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/synbond/synbond/internal/tap"
	"github.com/synbond/synbond/rewrite"
)

// maxHandshakes is the number of packets that a tap keeps. It only counts later ones.
const maxHandshakes = 1 << 16

// Handshake is one TCP SYN or SYN+ACK that a tap has seen.
type Handshake struct {
	Time     time.Time // by the kernel
	Packet   []byte    // from the IP header on; an outgoing one may lack its TCP checksum
	Outgoing bool      // sent by the tapped host
	Src, Dst netip.AddrPort
	ACK      bool   // a SYN+ACK
	Option   string // [PlainTCP], [MPCapable], [MPJoin], or the fault of an MPTCP option
}

// Options of a [Handshake].
const (
	PlainTCP  = "plain"
	MPCapable = "MP_CAPABLE"
	MPJoin    = "MP_JOIN"
)

// Tap keeps the handshakes that pass one interface.
type Tap struct {
	stop func()

	mu     sync.Mutex
	tap    *tap.Tap // nil when closed
	seen   []Handshake
	missed int
}

// pollEvery is the interval at which a tap is emptied, since its buffer is bounded.
const pollEvery = 20 * time.Millisecond

// OpenTap starts to watch an interface of the host. The caller owes it a Close.
func OpenTap(h *Host, ifname string) (*Tap, error) {
	t := &Tap{}
	err := h.Do(func() (err error) {
		t.tap, err = tap.Open(ifname)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s:%s: %w", h.Name, ifname, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.stop = func() { cancel(); <-done }
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			t.Handshakes()
			select {
			case <-ctx.Done():
			case <-time.After(pollEvery):
			}
		}
	}()
	return t, nil
}

// poll keeps the handshakes since its last call. It is called with t.mu held.
func (t *Tap) poll() {
	if t.tap == nil {
		return
	}
	for p := (tap.Packet{}); ; {
		if ok, err := t.tap.Poll(&p); !ok || err != nil {
			return
		}
		t.keep(p)
	}
}

// keep keeps the packet if it belongs to a handshake.
func (t *Tap) keep(p tap.Packet) {
	var seg rewrite.Segment
	if seg.Parse(p.Data) != nil || seg.Flags&rewrite.SYN == 0 {
		return
	}
	if len(t.seen) == maxHandshakes {
		t.missed++
		return
	}
	t.seen = append(t.seen, Handshake{
		Time: p.Time, Packet: slices.Clone(p.Data), Outgoing: p.Outgoing,
		Src: seg.Src, Dst: seg.Dst, ACK: !seg.IsSYN(), Option: option(&seg),
	})
}

// option names the MPTCP option of a handshake's segment.
func option(seg *rewrite.Segment) string {
	m, err := seg.MPTCP()
	switch {
	case err != nil:
		return err.Error()
	case m.Capable:
		return MPCapable
	case m.Join:
		return MPJoin
	}
	return PlainTCP
}

// Handshakes returns the packets seen so far, in order. They must not be changed.
func (t *Tap) Handshakes() []Handshake {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.poll()
	return t.seen[:len(t.seen):len(t.seen)]
}

// Missed returns the number of handshakes seen after the tap was full.
func (t *Tap) Missed() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.poll()
	return t.missed
}

// Close ends the watch. Handshakes and Missed still work.
func (t *Tap) Close() error {
	t.stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.poll()
	err := t.tap.Close()
	t.tap = nil
	return err
}
