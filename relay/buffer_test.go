//go:build linux

package relay_test

import (
	"io"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

func TestReceiveBufferGrowsIfItLimitsItsHost(t *testing.T) {
	for _, c := range []struct {
		name         string
		delay, pause time.Duration // of the line; of the client, after each of its reads
		grows        bool
	}{
		{"a distant host", 25 * time.Millisecond, 0, true},
		{"one that has to wait for the client", 0, 10 * time.Millisecond, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, benchConfig{delay: c.delay})
			client, server := b.pair("tcp", "tcp", "2001:db8:2::2")
			check(t, client.SetReadBuffer(64<<10))
			conn := b.last()
			var g errgroup.Group
			g.Go(func() error {
				some := make([]byte, 1<<20)
				for {
					if _, err := server.Write(some); err != nil {
						return nil // the client has seen enough
					}
				}
			})
			forced := forcesBuffers(t, b.CPE)
			size := 0
			buf := make([]byte, 64<<10)
			for range 320 {
				_, err := io.ReadFull(client, buf)
				check(t, err)
				var fitted bool
				size, fitted, err = conn.ReceiveBuffer()
				check(t, err)
				if fitted && forced {
					t.Fatal("the kernel fits the buffer, too")
				}
				time.Sleep(c.pause)
			}
			if grown := size > 1<<20; grown != c.grows {
				t.Errorf("the buffer has %d bytes after %d", size, conn.BytesDown())
			}
			check(t, client.Close())
			check(t, g.Wait())
		})
	}
}
