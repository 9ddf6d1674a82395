//go:build linux

package box

import (
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/synbond/synbond/internal/encap"
	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/internal/probe"
)

// encapHub is a HAG's end of encapsulated subflows. Its one interface is made when a CPE first asks,
// and stays until the box stops.
type encapHub struct {
	*encap.Hub
	log  *slog.Logger
	open func(c host.TUNConfig, take func(b []byte)) (*tunnel, error)
	send func(datagram []byte, via encap.Via) error

	device atomic.Pointer[tunnel]

	mu    sync.Mutex // guards what follows, and changes of the device
	ended bool
	told  bool // that there is no interface
	retry time.Time
}

var _ probe.Encapsulator = (*encapHub)(nil)

// hubInterface is the name of a HAG's interface.
const hubInterface = "synbond-hag"

// newHub gives the responder its end of encapsulated subflows. There is none without an IPv4 join
// address: see package encap.
func (b *Box) newHub(undo *undo) {
	join := paths.PickJoin(b.cfg.Join, true)
	if !b.cfg.Encapsulate || !join.IsValid() {
		return
	}
	h := &encapHub{Hub: encap.NewHub(join, randomKey), log: b.cfg.Log, open: openTunnel, send: b.responder.Send}
	b.hub = h
	b.set.SetInner(func(inner netip.Addr) (int, bool) {
		index, ok := h.Outer(inner)
		return b.set.On(index), ok
	})
	b.responder.Encapsulate(h)
	undo.add(h.close)
}

// randomKey draws a key that nobody can guess.
func randomKey() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return binary.BigEndian.Uint64(b[:])
}

// Grant implements [probe.Encapsulator].
func (h *encapHub) Grant(now time.Time, box uint64, path int, via encap.Via) (encap.Grant, bool) {
	if !h.ready(now) {
		return encap.Grant{}, false
	}
	return h.Hub.Grant(now, box, path, via)
}

// ready makes the interface unless it is there, and reports whether it is.
func (h *encapHub) ready(now time.Time) bool {
	if t := h.device.Load(); t != nil && !t.broken.Load() {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.device.Load()
	switch {
	case h.ended, now.Before(h.retry):
		return false
	case old != nil && !old.broken.Load():
		return true
	case old != nil:
		_ = old.close() // others have removed it
	}
	t, err := h.open(host.TUNConfig{Name: hubInterface, MTU: encap.MTU(0), Remote: encap.Prefix}, h.take)
	if err != nil {
		h.retry = now.Add(retryInterface)
		if !h.told {
			h.log.Warn("subflows cannot be encapsulated for CPEs that ask for it", "err", err)
		}
		h.told = true
		h.device.Store(nil)
		return false
	}
	h.told = false
	h.device.Store(t)
	h.log.Info("subflows are encapsulated in UDP for CPEs that ask for it", "interface", hubInterface)
	return true
}

// take takes a packet from the kernel.
func (h *encapHub) take(b []byte) {
	if via, why := h.Outbound(b); why == encap.Passed {
		_ = h.send(b, via) // what cannot be sent counts as lost
	}
}

// Take implements [probe.Encapsulator].
func (h *encapHub) Take(datagram []byte, from netip.AddrPort, socket int) {
	packet, why := h.Inbound(datagram, from, socket)
	if t := h.device.Load(); why == encap.Passed && t != nil {
		_, _ = t.Write(packet) // what the kernel does not take counts as lost
	}
}

// missing names what others have taken from the interface.
func (h *encapHub) missing() (string, error) {
	if t := h.device.Load(); t != nil {
		return missingOf([]*tunnel{t})
	}
	return "", nil
}

// mend puts back what is missing.
func (h *encapHub) mend() error {
	if t := h.device.Load(); t != nil && t.broken.Load() {
		h.ready(time.Now())
		return nil
	} else if t != nil {
		return mendAll([]*tunnel{t})
	}
	return nil
}

// close removes the interface.
func (h *encapHub) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	if t := h.device.Swap(nil); t != nil {
		return t.close()
	}
	return nil
}
