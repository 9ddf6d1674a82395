//go:build linux

package nl_test

import (
	"context"
	"net/netip"
	"sync"
	"testing"

	"github.com/mdlayher/netlink"
	routing "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/nl"
)

func TestMain(m *testing.M) { netlabtest.Main(m) }

// host makes a host with an interface lan. The test must leave no goroutine and no
// file descriptor.
func host(t *testing.T) *netlab.Host {
	t.Helper()
	netlabtest.Require(t)
	netlabtest.LeavesNothing(t)
	var hosts [2]*netlab.Host
	for i := range hosts {
		h, err := netlab.NewHost("watch")
		netlabtest.Check(t, err)
		t.Cleanup(func() { netlabtest.Check(t, h.Close()) })
		hosts[i] = h
	}
	netlabtest.Check(t, netlab.Connect(hosts[0], "lan", hosts[1], "lan"))
	return hosts[0]
}

// addNeighbours adds n neighbours, each of which the kernel reports to RTNLGRP_NEIGH.
func addNeighbours(t *testing.T, h *netlab.Host, n int) {
	t.Helper()
	netlabtest.Check(t, h.Netlink(func(r *routing.Handle) error {
		lan, err := r.LinkByName("lan")
		if err != nil {
			return err
		}
		a := netip.MustParseAddr("2001:db8::1")
		for range n {
			a = a.Next()
			err := r.NeighSet(&routing.Neigh{
				LinkIndex: lan.Attrs().Index, State: routing.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: []byte{2, 0, 0, 0, 0, 1},
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
}

// watch is a running Watch of neighbours whose handler waits while blocked is locked.
type watch struct {
	blocked         sync.Mutex
	mu              sync.Mutex
	messages, fresh int // handler calls without messages: the state is to be read anew
	stop            func() error
}

func start(t *testing.T, h *netlab.Host) *watch {
	t.Helper()
	w := &watch{}
	ctx, cancel := context.WithCancel(t.Context())
	done := netlabtest.Inside(t, h, func() error {
		return nl.Watch(ctx, unix.NETLINK_ROUTE, []uint32{unix.RTNLGRP_NEIGH}, func(messages []netlink.Message) {
			w.blocked.Lock()
			defer w.blocked.Unlock()
			w.mu.Lock()
			defer w.mu.Unlock()
			w.messages += len(messages)
			if messages == nil {
				w.fresh++
			}
		})
	})
	w.stop = func() error { cancel(); return <-done }
	netlabtest.Eventually(t, "the watch does not begin", func() bool { _, fresh := w.counts(); return fresh == 1 })
	return w
}

func (w *watch) counts() (messages, fresh int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.messages, w.fresh
}

func TestWatchHandsOnAllMessages(t *testing.T) {
	h := host(t)
	w := start(t, h)
	addNeighbours(t, h, 20)
	netlabtest.Eventually(t, "messages are missing", func() bool { messages, _ := w.counts(); return messages >= 20 })
	netlabtest.Check(t, w.stop())
}

func TestWatchLeavesNothingWhenMessagesWait(t *testing.T) {
	h := host(t)
	w := start(t, h)
	w.blocked.Lock()
	addNeighbours(t, h, 50)
	done := make(chan error)
	go func() { done <- w.stop() }()
	w.blocked.Unlock()
	netlabtest.Check(t, <-done)
}

func TestWatchReportsLostMessages(t *testing.T) {
	h := host(t)
	w := start(t, h)
	w.blocked.Lock()
	addNeighbours(t, h, 1000) // more than the receive buffer holds
	w.blocked.Unlock()
	netlabtest.Eventually(t, "the loss is not reported", func() bool { _, fresh := w.counts(); return fresh > 1 })
	before, losses := w.counts()
	addNeighbours(t, h, 1000) // the watch goes on: these are reported, or their loss is
	netlabtest.Eventually(t, "nothing comes after the loss", func() bool { messages, fresh := w.counts(); return messages > before || fresh > losses })
	netlabtest.Check(t, w.stop())
}

func TestWatchOfAnUnknownGroupIsAnError(t *testing.T) {
	if err := nl.Watch(t.Context(), unix.NETLINK_ROUTE, []uint32{1 << 20}, func([]netlink.Message) {}); err == nil {
		t.Error("group 2^20 can be joined")
	}
}
