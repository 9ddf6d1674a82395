//go:build linux

package netlab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"time"
)

// Number and times of the echoes of one measurement.
const (
	echoes      = 10
	echoEvery   = 50 * time.Millisecond
	echoTimeout = 500 * time.Millisecond // for the last one
)

// ICMPv6 echo messages: type, code, checksum, identifier, sequence number (RFC
// 4443, section 4). The kernel fills in the checksum, and answers.
const (
	echoRequest = 128
	echoReply   = 129
	echoLen     = 8
)

// RoundTrip measures the round trip of an access line by ICMPv6, from the CPE's
// address on it to the HAG's: the median of some echoes.
func (l *Line) RoundTrip(ctx context.Context) (time.Duration, error) {
	var c net.PacketConn
	err := l.cpe.host.Do(func() (err error) {
		c, err = net.ListenPacket("ip6:ipv6-icmp", l.CPE6.String())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("round trip of %s: %w", l.Name, err)
	}
	defer c.Close()
	p := pinger{conn: c, id: uint16(rand.Uint32())}
	for i := range p.sent {
		if err := p.send(uint16(i), &net.IPAddr{IP: l.HAG6.AsSlice()}); err != nil {
			return 0, fmt.Errorf("round trip of %s: %w", l.Name, err)
		}
		wait := echoEvery
		if i == len(p.sent)-1 {
			wait = echoTimeout
		}
		if err := p.receive(time.Now().Add(wait)); err != nil {
			return 0, fmt.Errorf("round trip of %s: %w", l.Name, err)
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
	}
	if len(p.trips) == 0 {
		return 0, fmt.Errorf("round trip of %s: none of %d echoes came back", l.Name, echoes)
	}
	slices.Sort(p.trips)
	return p.trips[len(p.trips)/2], nil
}

// pinger is a raw socket with the times of its echoes.
type pinger struct {
	conn  net.PacketConn
	id    uint16
	sent  [echoes]time.Time
	trips []time.Duration
}

func (p *pinger) send(seq uint16, to net.Addr) error {
	b := binary.BigEndian.AppendUint16([]byte{echoRequest, 0, 0, 0}, p.id)
	p.sent[seq] = time.Now()
	_, err := p.conn.WriteTo(binary.BigEndian.AppendUint16(b, seq), to)
	return err
}

// receive adds the round trips of answers until a time, or until all have arrived.
func (p *pinger) receive(until time.Time) error {
	if err := p.conn.SetReadDeadline(until); err != nil {
		return err
	}
	var b [1500]byte
	for len(p.trips) < len(p.sent) {
		n, _, err := p.conn.ReadFrom(b[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		if n < echoLen || b[0] != echoReply || binary.BigEndian.Uint16(b[4:]) != p.id {
			continue
		}
		if seq := int(binary.BigEndian.Uint16(b[6:])); seq < len(p.sent) {
			p.trips = append(p.trips, time.Since(p.sent[seq]))
		}
	}
	return nil
}
