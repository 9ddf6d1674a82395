//go:build linux

package netlab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// Direction is the direction of a transfer's stream.
type Direction uint8

// The directions, as the client sees them.
const (
	Down Direction = iota // the server sends
	Up                    // the client sends
)

func (d Direction) String() string {
	if d == Up {
		return "up"
	}
	return "down"
}

// Dialer makes one connection to a server that runs [ServeTraffic].
type Dialer func(context.Context) (net.Conn, error)

// Request describes one transfer over one connection.
type Request struct {
	Direction Direction
	// Bytes to send. When it is 0 and Duration is not, the sender goes on for
	// Duration and ends with a whole block.
	Bytes    int64
	Duration time.Duration
	// Warmup is left out of Goodput, at the start as the receiver sees it.
	Warmup time.Duration
}

// Result has the measurements of one transfer. Every byte of it was verified.
type Result struct {
	Bytes   int64
	Connect time.Duration // of the dial
	// Elapsed is from the start of the dial to the last byte at the receiver: for
	// Up, to the arrival of its report.
	Elapsed time.Duration
	// Goodput in bit/s at the receiver: from the start of the dial (Up: from the
	// arrival of the request), or from the end of the warm-up, to the last byte.
	Goodput float64
	// Stall is the longest time in which the receiver got nothing, after the first byte.
	Stall time.Duration
	// PeerSeen is the client's address as the server saw it.
	PeerSeen netip.AddrPort
}

// ErrCorrupt means that a byte was lost, changed or out of place.
var ErrCorrupt = errors.New("stream is corrupt")

// Transfer moves n bytes over a new connection.
func Transfer(ctx context.Context, dial Dialer, d Direction, n int64) (Result, error) {
	return Request{Direction: d, Bytes: n}.Run(ctx, dial)
}

// TransferFor moves bytes over a new connection for a time.
func TransferFor(ctx context.Context, dial Dialer, d Direction, t time.Duration) (Result, error) {
	return Request{Direction: d, Duration: t}.Run(ctx, dial)
}

// PeerSeen asks the server for the client's address as the server sees it.
func PeerSeen(ctx context.Context, dial Dialer) (netip.AddrPort, error) {
	r, err := Transfer(ctx, dial, Down, 0)
	return r.PeerSeen, err
}

// Run makes the transfer over a new connection, which it closes.
func (r Request) Run(ctx context.Context, dial Dialer) (Result, error) {
	start := time.Now()
	c, err := dial(ctx)
	if err != nil {
		return Result{}, err
	}
	defer c.Close()
	res := Result{Connect: time.Since(start)}
	// A deadline in the past ends whatever waits for the connection.
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	err = r.run(c, start, &res)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		return res, fmt.Errorf("transfer %s: %w", r.Direction, err)
	}
	return res, nil
}

func (r Request) run(c net.Conn, start time.Time, res *Result) error {
	if _, err := c.Write(r.append(nil)); err != nil {
		return err
	}
	var greeting [greetingLen]byte
	if r.Direction == Up {
		if err := r.send(c); err != nil {
			return err
		}
	}
	if _, err := io.ReadFull(c, greeting[:]); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	res.PeerSeen = parsePeer(greeting)
	if r.Direction == Down {
		m, err := r.receive(c, start)
		res.Bytes, res.Goodput, res.Stall = m.bytes, m.goodput(), m.stall
		res.Elapsed = m.last.Sub(start)
		return err
	}
	var report [reportLen]byte
	_, err := io.ReadFull(c, report[:])
	res.Elapsed = time.Since(start)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return res.parseReport(report)
}

// ConnectTimes makes n connections one after the other and returns their connect times.
func ConnectTimes(ctx context.Context, dial Dialer, n int) ([]time.Duration, error) {
	times := make([]time.Duration, 0, n)
	for range n {
		start := time.Now()
		c, err := dial(ctx)
		if err != nil {
			return times, err
		}
		times = append(times, time.Since(start))
		if err := c.Close(); err != nil {
			return times, err
		}
	}
	return times, nil
}

// Lengths of the protocol's messages, all in network byte order:
//
//	request   magic u32, direction u8, 3 zero bytes, bytes u64, duration ns u64, warm-up ns u64
//	greeting  the client's address as IPv6 (16 bytes), its port u16
//	report    verdict u8 (0 is good), 7 zero bytes, bytes u64, goodput bit/s u64, stall ns u64
//
// The client sends the request, the server the greeting. Then one of them sends
// the stream and closes that half, and for Up the server sends the report.
const (
	requestLen  = 32
	greetingLen = 18
	reportLen   = 32
	magic       = 0x73796231 // "syb1"
)

func (r Request) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, magic)
	b = append(b, byte(r.Direction), 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Bytes))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Duration))
	return binary.BigEndian.AppendUint64(b, uint64(r.Warmup))
}

func parseRequest(b [requestLen]byte) (Request, error) {
	if binary.BigEndian.Uint32(b[:]) != magic || b[4] > byte(Up) {
		return Request{}, fmt.Errorf("request % x: %w", b[:8], ErrCorrupt)
	}
	return Request{
		Direction: Direction(b[4]),
		Bytes:     int64(binary.BigEndian.Uint64(b[8:])),
		Duration:  time.Duration(binary.BigEndian.Uint64(b[16:])),
		Warmup:    time.Duration(binary.BigEndian.Uint64(b[24:])),
	}, nil
}

func appendPeer(b []byte, a net.Addr) []byte {
	var p netip.AddrPort
	if t, ok := a.(*net.TCPAddr); ok {
		p = t.AddrPort()
	}
	ip := p.Addr().As16()
	return binary.BigEndian.AppendUint16(append(b, ip[:]...), p.Port())
}

func parsePeer(b [greetingLen]byte) netip.AddrPort {
	ip := netip.AddrFrom16([16]byte(b[:16])).Unmap()
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[16:]))
}

func (m *meter) appendReport(b []byte, err error) []byte {
	bad := byte(0)
	if err != nil {
		bad = 1
	}
	b = append(b, bad, 0, 0, 0, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(m.bytes))
	b = binary.BigEndian.AppendUint64(b, uint64(m.goodput()))
	return binary.BigEndian.AppendUint64(b, uint64(m.stall))
}

func (r *Result) parseReport(b [reportLen]byte) error {
	r.Bytes = int64(binary.BigEndian.Uint64(b[8:]))
	r.Goodput = float64(binary.BigEndian.Uint64(b[16:]))
	r.Stall = time.Duration(binary.BigEndian.Uint64(b[24:]))
	if b[0] != 0 {
		return fmt.Errorf("server after %d bytes: %w", r.Bytes, ErrCorrupt)
	}
	return nil
}
