//go:build linux

package mptcp

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/paths"
)

func TestEachRequestOfABatchHasItsOwnOutcome(t *testing.T) {
	s := newPair(t)
	client, server, token := s.connect(t)
	p := s.m.pm
	b := p.NewBatch()
	if errs, err := p.Send(b); len(errs) != 0 || err != nil {
		t.Errorf("nothing: %v, %v", errs, err)
	}
	local := Address{AddrPort: at(s.other, 0), ID: 3}
	remote := Address{AddrPort: s.joins[1]}
	b.Create(token+1, local, remote) // no such connection
	b.Create(token, local, remote)
	b.Destroy(token, at(s.other, 1), s.joins[1]) // no such subflow
	b.SetBackup(token, at(s.other, 1), s.joins[1], true)
	b.Remove(token, 9) // no such ID
	b.Create(token, Address{AddrPort: at(s.other.Next(), 0), ID: 3}, remote)
	b.Remove(token, 3)
	want := []error{unix.EINVAL, nil, unix.ESRCH, unix.EINVAL, unix.EINVAL, unix.EINVAL, nil}
	if b.Len() != len(want) {
		t.Fatalf("%d requests", b.Len())
	}
	got, err := p.Send(b)
	check(t, err)
	for i := range want {
		if !errors.Is(got[i], want[i]) {
			t.Errorf("request %d gives %v, want %v", i, got[i], want[i])
		}
	}
	b.Reset()
	if b.Len() != 0 {
		t.Error("an empty batch is not")
	}
	exchange(t, client, server)
}

func TestTheLargestBatchIsAcknowledgedWhole(t *testing.T) {
	p := pm(t, build(t).CPE)
	b := p.NewBatch()
	for range paths.MaxRequests {
		b.Remove(1, 1)
	}
	for range 2 { // and leaves nothing behind
		errs, err := p.Send(b)
		check(t, err)
		if i := slices.Index(errs, nil); i >= 0 || len(errs) != paths.MaxRequests {
			t.Errorf("request %d of %d has no outcome", i, len(errs))
		}
	}
	if _, err := p.Limits(); err != nil {
		t.Errorf("other requests suffer: %v", err)
	}
}

func TestMalformedAcknowledgementsAreErrors(t *testing.T) {
	b := &Batch{n: 2, errs: make([]error, 2)}
	ack := make([]byte, 36)
	binary.NativeEndian.PutUint16(ack[4:], unix.NLMSG_ERROR)
	if err := b.acknowledged(ack); err != nil {
		t.Errorf("a good one: %v", err)
	}
	for n := range 20 {
		if b.acknowledged(ack[:n]) == nil {
			t.Errorf("%d bytes are one", n)
		}
	}
	binary.NativeEndian.PutUint32(ack[8:], 2)
	if b.acknowledged(ack) == nil {
		t.Error("one of a request that was not made is taken")
	}
	binary.NativeEndian.PutUint16(ack[4:], unix.NLMSG_DONE)
	if b.acknowledged(ack) == nil {
		t.Error("the end of a dump is taken for one")
	}
}
