package pcaps

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/synbond/synbond/rewrite"
)

// Anonymizer changes what the frames of a capture say about people: addresses, payloads, keys,
// names. It builds each frame from zeros and takes over only fields that it knows, so what it
// does not know is zero. A replay comes to the same decisions, except for policies by prefix.
//
//   - IP addresses keep their common prefixes among each other, and prefixes with a meaning.
//   - MAC addresses keep the bit for groups.
//   - Payloads of TCP and UDP, and options without a meaning for a box, are zero.
//   - MPTCP keys become others, and tokens and HMACs those of the new keys.
//   - Checksums that were right are right, and wrong ones wrong.
//   - Interfaces are numbered. Comments vanish; times and lengths stay.
//
// An Anonymizer draws its secret at random: two captures have nothing in common.
type Anonymizer struct {
	mapper
	mptcp mptcpKeys
	names map[Interface]Interface
	out   Frame
	data  []byte
}

// NewAnonymizer returns an Anonymizer.
func NewAnonymizer() *Anonymizer {
	a := &Anonymizer{names: make(map[Interface]Interface)}
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // it never fails
	a.mapper.init(secret)
	a.mptcp.init(&a.mapper)
	return a
}

// Capture returns a changed copy of a whole capture file, as pcapng. Interfaces have no sides
// but those of a recording.
func (a *Anonymizer) Capture(file []byte) ([]byte, error) {
	in, err := NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := NewWriter(&out, Pcapng)
	for {
		f, err := in.Next()
		switch {
		case err == io.EOF, errors.Is(err, ErrTruncated): // a file that is being written ends anywhere
			err = w.Flush() // before the bytes are taken
			return out.Bytes(), err
		case err != nil:
			return nil, err
		}
		side := new(Config).interfaceOf(in.Interface(f.Interface))
		if err := w.Write(a.Frame(f, side.LinkType), a.Interface(&side)); err != nil {
			return nil, err
		}
	}
}

// Interface returns an interface without its name: its number instead, with its side if that
// is known. The description of a recorded interface has no name in it, and stays.
func (a *Anonymizer) Interface(in *captureInterface) Interface {
	out, known := a.names[in.Interface]
	if known {
		return out
	}
	out.LinkType = in.LinkType
	if in.recorded {
		out.Description = in.Description
	}
	if in.Name != "" {
		word := "if"
		if in.sideKnown {
			word = map[bool]string{true: "path", false: "plain"}[in.side != 0]
		}
		out.Name = fmt.Sprintf("%s%d", word, len(a.names)+1)
	}
	a.names[in.Interface] = out
	return out
}

// Frame returns a changed copy of a frame, valid until the next call.
func (a *Anonymizer) Frame(f *Frame, link LinkType) *Frame {
	a.data = append(a.data[:0], make([]byte, len(f.Data))...)
	a.out = Frame{Number: f.Number, Time: f.Time, Direction: f.Direction, Length: f.Length, Data: a.data}
	if links[link] == nil {
		return &a.out
	}
	d := disguise{a: a, f: f, in: f.Data, out: a.data, layers: f.places[:f.walk.depth], end: min(f.walk.at, len(f.Data))}
	d.headers()
	d.packet()
	d.outerChecksums()
	d.trailer()
	return &a.out
}

// disguise is one frame on its way from in to out.
type disguise struct {
	a       *Anonymizer
	f       *Frame
	in, out []byte
	layers  []place // headers, the innermost IP packet's included
	end     int     // of these headers
}

// span returns the i-th header in both frames.
func (d *disguise) span(i int) (in, out []byte) {
	from, to := d.layers[i].at, d.end
	if i+1 < len(d.layers) {
		to = d.layers[i+1].at
	}
	to = max(from, min(to, len(d.in)))
	return d.in[from:to], d.out[from:to]
}

// headers changes all headers up to the innermost IP header, and that of UDP behind it.
func (d *disguise) headers() {
	for i := range d.layers {
		in, out := d.span(i)
		switch p := d.layers[i].protocol; p {
		case ethernet:
			copy(out, in)
			d.a.mac(out, 0)
			d.a.mac(out, 6)
		case cooked1:
			copy(out, in)
			d.a.mac(out, 6)
			zero(out, 12, 14)
		case cooked2:
			copy(out, in)
			d.a.mac(out, 12)
			zero(out, 18, 20)
		case firewire:
			copy(out, in)
			zero(out, 0, 16)
		case nflog:
			nflogFields(out, in)
		case nsh, geneve:
			copy(out, in[:min(len(in), 8)])
		case teredo: // the origin of the packet
		case ipAny, ipv4, ipv6:
			d.a.ipHeader(out, in)
		default:
			copy(out, in)
		}
	}
}

// zero clears a part of b, as far as b has it.
func zero(b []byte, from, to int) {
	if from < len(b) {
		clear(b[from:min(to, len(b))])
	}
}

// nflogFields copies the header and the heads of values, not the values: names of rules,
// hardware addresses, marks.
func nflogFields(out, in []byte) {
	copy(out, in[:min(len(in), nflogHeader)])
	for _, order := range byteOrders {
		for at := nflogHeader; at+4 <= len(in); {
			length := int(order.Uint16(in[at:]))
			copy(out[at:], in[at:at+4])
			if at+4 == len(in) { // the payload follows
				return
			}
			if length < 4 {
				break
			}
			at += (length + 3) &^ 3
		}
		zero(out, nflogHeader, len(out))
	}
}

// packet changes what follows the innermost IP header.
func (d *disguise) packet() {
	last := len(d.layers) - 1
	if last < 0 || d.f.end == 0 || d.layers[last].at < d.f.ip {
		return
	}
	whole := d.in[d.f.ip:d.f.end]
	d.a.content(d.out[d.f.ip:d.f.end], whole, len(whole)+d.f.missing, d.layers[last].at == d.f.ip)
}

// outerChecksums computes the checksums of the headers around the packet, the innermost first.
func (d *disguise) outerChecksums() {
	for i := len(d.layers) - 1; i >= 0; i-- {
		at := d.layers[i].at
		if at >= d.f.ip && d.f.end != 0 && d.layers[i].protocol != udp {
			continue // the packet itself
		}
		switch d.layers[i].protocol {
		case udp:
			if i > 0 && at < d.f.end {
				d.outerUDP(i)
			}
		case gre:
			if len(d.in) >= at+8 && d.in[at]&0x80 != 0 && d.in[at+1]&greVersion == 0 {
				end := max(at, min(d.f.wireEnd(), len(d.in)))
				sum := sums{field: 4, missing: d.f.missing > 0}
				sum.set(d.out[at:end], d.in[at:end])
			}
		}
	}
}

// outerUDP sets the checksum of UDP in front of a tunnel.
func (d *disguise) outerUDP(i int) {
	at, ip := d.layers[i].at, d.layers[i-1].at
	if at+udpSize > len(d.in) || d.layers[i-1].protocol > ipv6 || d.layers[i-1].protocol < ipAny {
		return
	}
	length := int(d.in[at+4])<<8 | int(d.in[at+5])
	end := min(len(d.in), at+max(length, udpSize))
	d.a.transportSum(d.out[ip:], d.in[ip:], d.out[at:end], d.in[at:end], 6, 17, length)
}

// trailer computes the frame check sequence, if the frame has one.
func (d *disguise) trailer() {
	if d.f.hasFCS() {
		putFCS(d.out)
	}
}

// content changes what follows the IP header of a packet, which has a length on the wire.
// Without known, the packet is one of a tunnel whose headers have been changed already.
func (a *Anonymizer) content(out, in []byte, length int, known bool) {
	value, at, ok := transport(in)
	if !ok || !known || at >= len(in) {
		return
	}
	switch value {
	case protocolTCP:
		a.tcp(out, in, at, length)
	case protocolICMP, protocolICMPv6:
		a.icmp(out, in, at, length, value)
	case protocolUDP:
		copy(out[at:], in[at:min(len(in), at+udpSize)])
		a.transportSum(out, in, out[at:], in[at:], 6, value, length-at)
	}
}

const protocolUDP = 17

// tcp changes a segment: all is taken over but the options that tell something, and the
// payload.
func (a *Anonymizer) tcp(out, in []byte, at, length int) {
	header, to := in[at:], out[at:]
	copy(to, header[:min(len(header), tcpSize)])
	if len(header) < tcpSize {
		return
	}
	size := int(header[12]>>4) * 4
	options := header[tcpSize:max(tcpSize, min(size, len(header)))]
	src, dst := endpoints(in, at)
	a.mptcp.options(to[tcpSize:], options, src, dst, rewrite.Flags(header[13]))
	a.transportSum(out, in, to, header, 16, protocolTCP, length-at)
}

// icmp changes an ICMP message: of errors the quoted packet stays, as far as it is known.
func (a *Anonymizer) icmp(out, in []byte, at, length int, protocol uint8) {
	message, to := in[at:], out[at:]
	copy(to, message[:min(len(message), 4)])
	_, quotes := causeOf(protocol, message[0], firstOr(message[1:], 0))
	redirect := protocol == protocolICMP && message[0] == 5
	switch {
	case len(message) < 8:
	case redirect:
		a.address(to[4:8], message[4:8])
	case quotes || message[0] == 8 || message[0] == 0 || message[0] == 128 || message[0] == 129:
		copy(to[4:8], message[4:8])
	}
	if (quotes || redirect) && len(message) > 8 {
		a.quote(to[8:], message[8:])
	}
	a.transportSum(out, in, to, message, 2, protocol, length-at)
}

func firstOr(b []byte, otherwise byte) byte {
	if len(b) == 0 {
		return otherwise
	}
	return b[0]
}

// quote changes a quoted packet. Its checksum of TCP is of bytes that are not there: it
// becomes zero.
func (a *Anonymizer) quote(out, in []byte) {
	value, at, ok := transport(in)
	if !ok || at > len(in) {
		a.ipHeader(out[:min(len(out), ipv6Size)], in[:min(len(in), ipv6Size)])
		return
	}
	a.ipHeader(out[:at], in[:at])
	if value != protocolTCP {
		return
	}
	src, dst := endpointsOf(in, at)
	copy(out[at:], in[at:min(len(in), at+16)])
	if len(in) >= at+tcpSize {
		size := int(in[at+12]>>4) * 4
		a.mptcp.options(out[at+tcpSize:], in[at+tcpSize:max(at+tcpSize, min(at+size, len(in)))], src, dst, 0)
	}
}

// endpointsOf is endpoints, for a packet that may end before its ports.
func endpointsOf(packet []byte, at int) (src, dst netip.AddrPort) {
	if len(packet) < at+4 {
		return src, dst
	}
	return endpoints(packet, at)
}
