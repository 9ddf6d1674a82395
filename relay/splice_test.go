//go:build linux

package relay_test

import (
	"bytes"
	"io"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// TestUrgentDataDoesNotHoldUpABulkTransfer sends a byte out of band where a transfer
// is spliced: the kernel's splice stops before such a byte and says nothing of it.
func TestUrgentDataDoesNotHoldUpABulkTransfer(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			b := newBench(t, benchConfig{mptcp: m.mptcp()})
			c, s := b.pair(m.client, m.server, m.at)
			before, after := pattern(6, 3<<20), pattern(7, 2<<20)
			all := slices.Concat(before, []byte{'!'}, after) // urgent data arrives in line
			got := make([]byte, len(all))
			var g errgroup.Group
			g.Go(func() error { _, err := io.ReadFull(s, got); return err })
			_, err := c.Write(before)
			check(t, err)
			raw, err := c.SyscallConn()
			check(t, err)
			var sent error
			check(t, raw.Write(func(fd uintptr) bool {
				sent = unix.Sendto(int(fd), []byte{'!'}, unix.MSG_OOB, nil)
				return sent != unix.EAGAIN
			}))
			check(t, sent)
			_, err = c.Write(after)
			check(t, err)
			check(t, g.Wait())
			if !bytes.Equal(got, all) {
				t.Error("other bytes arrived than were sent")
			}
			check(t, c.CloseWrite())
			check(t, s.CloseWrite())
			b.expect(nil, len(got), 0)
		})
	}
}

// TestResetOfABulkTransferLeavesNothingToAnother resets a connection whose bytes wait
// for its reader, again and again, beside one of the same loop, and so of the same pipe.
func TestResetOfABulkTransferLeavesNothingToAnother(t *testing.T) {
	b := newBench(t, benchConfig{mptcp: true, loops: 1})
	c, s := b.pair("tcp", "mptcp", server6)
	<-b.paired
	steady := pattern(8, 64<<20)
	var g errgroup.Group
	g.Go(receive(s, steady))
	half := len(steady) / 2
	_, err := c.Write(steady[:half])
	check(t, err)
	g.Go(send(c, steady[half:]))
	for range 5 {
		other, its := b.pair("tcp", "mptcp", server6)
		conn := <-b.paired
		go other.Write(pattern(9, 64<<20))
		_, err := io.CopyN(io.Discard, its, 4<<20) // and no more
		check(t, err)
		var before uint64
		eventually(t, "the sender is never held back", func() bool {
			last := before
			before = conn.BytesUp()
			return before == last
		})
		reset(t, its)
		b.expectError()
	}
	check(t, g.Wait())
	check(t, s.CloseWrite())
	b.expect(nil, len(steady), 0)
}
