//go:build linux

package tests

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/pcaps"
	"github.com/synbond/synbond/rewrite"
)

// Keys and nonces of the connection of version 0. The kernel speaks version 1 only,
// so package rewrite writes this connection, the same each time.
const (
	clientKey, serverKey     = 0x636c69656e74206b, 0x736572766572206b
	clientNonce, serverNonce = 0x6e6f6e63, 0x65206f66
)

// script is a capture written segment by segment, one frame each millisecond.
type script struct{ frames []pcaps.Frame }

var epoch = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// subflow is one TCP connection of a script, on one of its interfaces.
type subflow struct {
	*script
	in   int
	ends [2]netip.AddrPort // client and server
	seq  [2]uint32         // of the byte that they send next
	hear [2]uint32         // of the byte that they expect next
}

// Ends of a subflow.
const (
	theClient = iota
	theServer
)

func (s *script) subflow(in int, client, server netip.AddrPort) *subflow {
	return &subflow{script: s, in: in, ends: [2]netip.AddrPort{client, server}, seq: [2]uint32{1000, 900_000}}
}

// say makes one end send a segment. Timestamps, and for a SYN its MSS and SACK
// options, are added to the options.
func (f *subflow) say(who int, flags rewrite.Flags, data string, options ...rewrite.Option) {
	at := time.Duration(len(f.frames)) * time.Millisecond
	common := []rewrite.Option{
		{Type: rewrite.OptionNop}, {Type: rewrite.OptionNop},
		{Type: rewrite.OptionTimestamps, Timestamps: rewrite.Timestamps{Value: uint32(at.Milliseconds()), Echo: 0}},
	}
	if flags&rewrite.SYN != 0 {
		common[0] = rewrite.Option{Type: rewrite.OptionMSS, MSS: 1440}
		common[1] = rewrite.Option{Type: rewrite.OptionSACKPermitted}
	}
	ip, tcp := synOf(f.ends[who], f.ends[1-who])
	tcp.Seq, tcp.Ack, tcp.Options = f.seq[who], f.hear[who], tcpOptions(append(common, options...)...)
	tcp.SYN, tcp.ACK, tcp.PSH = flags&rewrite.SYN != 0, flags&rewrite.ACK != 0, flags&rewrite.PSH != 0
	tcp.FIN, tcp.RST = flags&rewrite.FIN != 0, flags&rewrite.RST != 0
	macs := [2]net.HardwareAddr{{2, 0, 0, 0, byte(f.in), 1}, {2, 0, 0, 0, byte(f.in), 2}}
	ether := &layers.Ethernet{SrcMAC: macs[who], DstMAC: macs[1-who], EthernetType: layers.EthernetTypeIPv6}
	b := serialize(ether, ip, tcp, gopacket.Payload(data))
	f.frames = append(f.frames, pcaps.Frame{
		Time: epoch.Add(at), Interface: f.in, Direction: [2]pcaps.Direction{pcaps.Inbound, pcaps.Outbound}[who], Data: b, Length: len(b),
	})
	f.seq[who] += uint32(len(data))
	if flags&(rewrite.SYN|rewrite.FIN) != 0 {
		f.seq[who]++
	}
	f.hear[1-who] = f.seq[who]
}

// versionZero writes an MPTCP version 0 connection as a HAG would capture it.
func versionZero(*testing.T) []recording {
	s := new(script)
	server := netip.AddrPortFrom(netlab.Server6, 443)
	first := s.subflow(0, netip.AddrPortFrom(netlab.Client6, 40000), server)
	second := s.subflow(1, netip.AddrPortFrom(netip.MustParseAddr("2001:db8:11:1::2"), 40001), server)
	c := &conversation{}
	c.open(first)
	c.say(first, theClient, 1, "GET / HTTP/1.0\r\n\r\n")
	join(second, rewrite.Token(serverKey, 0))
	c.say(second, theServer, 1, "HTTP/1.0 204 No Content\r\n\r\n")
	c.close(first, second)

	// A join of an unknown connection, and a server without MPTCP.
	stranger := s.subflow(1, netip.AddrPortFrom(netip.MustParseAddr("2001:db8:11:1::2"), 40002), server)
	stranger.say(theClient, rewrite.SYN, "", joinSYN(0xdeadbeef))
	stranger.say(theServer, rewrite.RST|rewrite.ACK, "")
	plain := s.subflow(0, netip.AddrPortFrom(netlab.Client6, 40003), netip.AddrPortFrom(netlab.Server6, 80))
	plain.say(theClient, rewrite.SYN, "", mpCapable(0, clientKey))
	plain.say(theServer, rewrite.SYN|rewrite.ACK, "")
	plain.say(theClient, rewrite.ACK, "")
	plain.say(theClient, rewrite.FIN|rewrite.ACK, "")
	plain.say(theServer, rewrite.FIN|rewrite.ACK, "")
	plain.say(theClient, rewrite.ACK, "")
	return []recording{{
		role: "hag", format: "pcapng", origin: "written by the codec of package rewrite: kernels speak version 1 only",
		interfaces: []pcaps.Interface{{Name: "dsl", LinkType: pcaps.LinkEthernet}, {Name: "lte", LinkType: pcaps.LinkEthernet}},
		frames:     s.frames,
	}}
}

// conversation is an MPTCP connection: the number of bytes that each end has sent.
type conversation struct{ sent [2]uint64 }

var keys = [2]uint64{clientKey, serverKey}

// open is the handshake with MP_CAPABLE (RFC 6824, section 3.1).
func (c *conversation) open(f *subflow) {
	f.say(theClient, rewrite.SYN, "", mpCapable(0, clientKey))
	f.say(theServer, rewrite.SYN|rewrite.ACK, "", mpCapable(0, serverKey))
	both := mpCapable(0, clientKey)
	both.MPCapable.Form, both.MPCapable.ReceiverKey = rewrite.CapableKeys, serverKey
	f.say(theClient, rewrite.ACK, "", both)
}

// say sends data with a mapping, and its acknowledgement (section 3.3). at is the
// data's sequence number in the subflow.
func (c *conversation) say(f *subflow, who int, at uint32, data string) {
	d := c.acknowledgment(who)
	d.HasMap, d.DSN, d.SubflowSeq, d.DataLength = true, c.next(who), at, uint16(len(data))
	f.say(who, rewrite.PSH|rewrite.ACK, data, dss(d))
	c.sent[who] += uint64(len(data))
	f.say(1-who, rewrite.ACK, "", dss(c.acknowledgment(1-who)))
}

// next returns the data sequence number of the byte that an end sends next.
func (c *conversation) next(who int) uint64 { return rewrite.IDSN(keys[who], 0) + 1 + c.sent[who] }

// acknowledgment returns a DSS that acknowledges all that an end has received, with the low 4 bytes.
func (c *conversation) acknowledgment(who int) rewrite.DSS {
	return rewrite.DSS{HasAck: true, Ack: c.next(1-who) & 0xffff_ffff}
}

// close ends the data of both ends (section 3.3.3), then the subflows.
func (c *conversation) close(all ...*subflow) {
	for who := range 2 {
		d := c.acknowledgment(who)
		d.HasMap, d.DataFIN, d.DSN, d.DataLength = true, true, c.next(who), 1
		all[0].say(who, rewrite.ACK, "", dss(d))
		c.sent[who]++
		all[0].say(1-who, rewrite.ACK, "", dss(c.acknowledgment(1-who)))
	}
	for _, f := range all {
		f.say(theClient, rewrite.FIN|rewrite.ACK, "")
		f.say(theServer, rewrite.FIN|rewrite.ACK, "")
		f.say(theClient, rewrite.ACK, "")
	}
}

// dss returns an option with the low 4 bytes of its sequence numbers.
func dss(d rewrite.DSS) rewrite.Option {
	d.DSN &= 0xffff_ffff
	return rewrite.Option{Type: rewrite.OptionDSS, DSS: d}
}

// join is the handshake with MP_JOIN (section 3.2).
func join(f *subflow, token uint32) {
	f.say(theClient, rewrite.SYN, "", joinSYN(token))
	server := rewrite.Join{SenderKey: serverKey, ReceiverKey: clientKey, SenderNonce: serverNonce, ReceiverNonce: clientNonce}
	f.say(theServer, rewrite.SYN|rewrite.ACK, "", rewrite.Option{
		Type:         rewrite.OptionMPJoinSYNACK,
		MPJoinSYNACK: rewrite.MPJoinSYNACK{HMAC: server.TruncatedHMAC(), Nonce: serverNonce},
	})
	client := rewrite.Join{SenderKey: clientKey, ReceiverKey: serverKey, SenderNonce: clientNonce, ReceiverNonce: serverNonce}
	f.say(theClient, rewrite.ACK, "", rewrite.Option{
		Type: rewrite.OptionMPJoinACK, MPJoinACK: rewrite.MPJoinACK{HMAC: client.HMAC()},
	})
	f.say(theServer, rewrite.ACK, "")
}

func joinSYN(token uint32) rewrite.Option {
	return rewrite.Option{
		Type:      rewrite.OptionMPJoinSYN,
		MPJoinSYN: rewrite.MPJoinSYN{AddressID: 1, Token: token, Nonce: clientNonce},
	}
}
