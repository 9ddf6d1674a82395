//go:build linux

package relay_test

import (
	"errors"
	"net"
	"testing"
	"time"
)

// errGivenUp is the reason of a test for which a box gives a connection up.
var errGivenUp = errors.New("given up")

func TestConnectionThatTheBoxGivesUpIsResetAfterItsBytes(t *testing.T) {
	inModes(t, func(t *testing.T, b *bench, client, server *net.TCPConn) {
		host, peer := client, server // the host of the plain leg, beyond the relay its peer
		if !b.cfg.mptcp {
			host, peer = server, client
		}
		bytes := pattern(20, 14_000)
		_, err := peer.Write(bytes)
		check(t, err)
		acknowledged(t, peer)
		c := <-b.paired
		if !c.Alive() {
			t.Error("the connection is not alive")
		}
		b.relay.End(c, errGivenUp)
		receiveToReset(t, host, bytes)
		if got := b.ended(); got.conn != c || !errors.Is(got.err, errGivenUp) {
			t.Errorf("closed because of %v", got.err)
		}
		b.relay.End(c, errGivenUp) // without effect
		if !c.Alive() || c.Unacknowledged() != 0 {
			t.Error("a connection that has ended is said to need something")
		}
	})
}

func TestConnectionThatTheBoxResetsIsResetAtBothEnds(t *testing.T) {
	inModes(t, func(t *testing.T, b *bench, client, server *net.TCPConn) {
		c := <-b.paired
		b.relay.Reset(c, errGivenUp)
		receiveToReset(t, client, nil)
		receiveToReset(t, server, nil)
		if got := b.ended(); got.conn != c || !errors.Is(got.err, errGivenUp) {
			t.Errorf("closed because of %v", got.err)
		}
		b.relay.Reset(c, errGivenUp) // without effect
	})
}

func TestConnectionThatTheBoxResetsWhileItIsPaired(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			var b *bench
			isConnected := make(chan struct{})
			b = newBench(t, benchConfig{mptcp: m.mptcp(), paired: func() {
				b.relay.Reset(b.last(), errGivenUp)
				<-isConnected
			}})
			client, server := b.pair(m.client, m.server, m.at)
			close(isConnected)
			receiveToReset(t, client, nil)
			receiveToReset(t, server, nil)
			if got := b.ended(); !errors.Is(got.err, errGivenUp) {
				t.Errorf("closed because of %v", got.err)
			}
		})
	}
}

func TestProbesOfAConnectionLeaveItsKeepalive(t *testing.T) {
	inModes(t, func(t *testing.T, b *bench, _, _ *net.TCPConn) {
		c := b.last()
		expect := func(when string, want int) {
			t.Helper()
			if got, err := c.Keepalive(); err != nil || got != want && got != 0 {
				t.Errorf("%s: a keepalive of %d s, want %d (%v)", when, got, want, err)
			}
		}
		c.SetKeepalive(40 * time.Second)
		expect("as set", 40)
		c.Push(true)
		expect("while it is probed", 1)
		c.SetKeepalive(60 * time.Second)
		expect("set while it is probed", 1)
		c.Push(false)
		expect("afterwards", 60)
	})
}
