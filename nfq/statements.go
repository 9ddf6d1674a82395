//go:build linux

package nfq

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// Registers for the expressions of one statement.
const reg1, reg2 = unix.NFT_REG_1, unix.NFT_REG_2

// Byte 13 of the TCP header and the flags in it, RFC 9293, section 3.1.
const (
	tcpFlagsOffset  = 13
	tcpSYN          = 0x02
	tcpRST          = 0x04
	tcpACK          = 0x10
	tcpFINSYNRSTACK = 0x17
)

func equal(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: data}
}

func nfproto(a netip.Addr) statement {
	proto, name := byte(unix.NFPROTO_IPV6), "ipv6"
	if a.Is4() {
		proto, name = unix.NFPROTO_IPV4, "ipv4"
	}
	return statement{"meta nfproto " + name, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg1}, equal([]byte{proto}),
	}}
}

func isTCP() statement {
	return statement{"meta l4proto tcp", []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1}, equal([]byte{unix.IPPROTO_TCP}),
	}}
}

// isSYN matches a SYN without FIN, RST and ACK, also behind extension headers.
func isSYN() statement { return tcpFlagsAre("syn", tcpSYN) }

// isSYNACK matches a SYN+ACK without FIN and RST.
func isSYNACK() statement { return tcpFlagsAre("(syn | ack)", tcpSYN|tcpACK) }

// isBareReset matches a RST without ACK: the kernel's answer to an ACK or data for which
// it has no socket (RFC 9293, section 3.10.7.1).
func isBareReset() statement { return tcpFlagsAre("rst", tcpRST) }

func tcpFlagsAre(name string, flags byte) statement {
	tcp := isTCP()
	return statement{tcp.text + " tcp flags & (fin | syn | rst | ack) == " + name, append(tcp.exprs,
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: tcpFlagsOffset, Len: 1},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 1, Mask: []byte{tcpFINSYNRSTACK}, Xor: []byte{0}},
		equal([]byte{flags}),
	)}
}

func iifname(set string) statement { return interfaceIn("iifname", expr.MetaKeyIIFNAME, set) }
func oifname(set string) statement { return interfaceIn("oifname", expr.MetaKeyOIFNAME, set) }

func interfaceIn(which string, key expr.MetaKey, set string) statement {
	return statement{which + " @" + set, []expr.Any{
		&expr.Meta{Key: key, Register: reg1},
		&expr.Lookup{SourceRegister: reg1, SetName: set},
	}}
}

// endpointIs matches TCP from an address and port, or to them.
func endpointIs(source bool, at netip.AddrPort) statement {
	// Offsets of both ends in the headers: RFC 8200, section 3; RFC 791, section 3.1;
	// RFC 9293, section 3.1.
	family, addr, port, word := "ip6", uint32(24), uint32(2), "d"
	if at.Addr().Is4() {
		family, addr = "ip", 16
	}
	if source {
		addr, port, word = addr-uint32(at.Addr().BitLen())/8, 0, "s"
	}
	load := func(base expr.PayloadBase, offset, size uint32) expr.Any {
		return &expr.Payload{DestRegister: reg1, Base: base, Offset: offset, Len: size}
	}
	text := fmt.Sprintf("%s %saddr %s tcp %sport %d", family, word, at.Addr(), word, at.Port())
	return statement{text, slices.Concat(nfproto(at.Addr()).exprs, isTCP().exprs, []expr.Any{
		load(expr.PayloadBaseNetworkHeader, addr, uint32(at.Addr().BitLen())/8), equal(at.Addr().AsSlice()),
		load(expr.PayloadBaseTransportHeader, port, 2), equal(binary.BigEndian.AppendUint16(nil, at.Port())),
	})}
}

func fibNotLocal(addr string) statement {
	return statement{fmt.Sprintf("fib %s type != local", addr), []expr.Any{
		&expr.Fib{Register: reg1, FlagDADDR: addr == "daddr", FlagSADDR: addr == "saddr", ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}}
}

// socketTransparent matches packets to transparent sockets, as the box's are, and ICMP
// errors that quote packets from them (kernel: nf_sk_lookup_slow_v6).
func socketTransparent() statement {
	return statement{"socket transparent 1", []expr.Any{
		&expr.Socket{Key: expr.SocketKeyTransparent, Register: reg1}, equal([]byte{1}),
	}}
}

// socketWildcard matches packets to listeners of any address, which the box's are not: a
// transparent proxy of another program may listen on the port of any server. The kernel has
// no answer about handshakes and connections in TIME-WAIT (nft_socket_eval): no match.
func socketWildcard() statement {
	return statement{"socket wildcard 1", []expr.Any{
		&expr.Socket{Key: expr.SocketKeyWildcard, Register: reg1}, equal([]byte{1}),
	}}
}

// markIs matches packets by the box's bits of their mark.
func markIs(m Mark) statement { return markUnder(Mask, m) }

// isRefused matches the mark Refused and those below it.
func isRefused() statement { return markUnder(groupMask, Refused) }

// isLooped matches the marks ToPlain and ToPaths.
func isLooped() statement { return markUnder(groupMask, ToPlain) }

// sentBy matches packets from sockets with a mark, for any DSCP in it.
func sentBy(m Mark) statement { return markUnder(socketMask, m) }

// socketMark matches packets to sockets with a mark, for any DSCP in it, and ICMP errors
// that quote packets from them. A handshake, or a connection in TIME-WAIT, has no mark.
func socketMark(m Mark) statement {
	return masked("socket mark", &expr.Socket{Key: expr.SocketKeyMark, Register: reg1}, socketMask, m)
}

// withoutDSCP matches packets whose mark holds no DSCP.
func withoutDSCP() statement { return markUnder(classBits, 0) }

// hasDSCP matches packets whose mark is that of a socket with this DSCP.
func hasDSCP(dscp uint8) statement {
	return markUnder(socketBits|classBits, isSocket.WithDSCP(dscp))
}

// markUnder matches packets whose mark has a value under a mask.
func markUnder(mask, value Mark) statement {
	return masked("meta mark", &expr.Meta{Key: expr.MetaKeyMARK, Register: reg1}, mask, value)
}

// masked matches if the number that load reads has a value under a mask.
func masked(key string, load expr.Any, mask, value Mark) statement {
	return statement{fmt.Sprintf("%s & 0x%08x == 0x%08x", key, uint32(mask), uint32(value)), []expr.Any{
		load, bits(mask, 0), equal(native(value)),
	}}
}

// bits keeps the bits of a mask in the first register, and then inverts those of flip.
func bits(mask, flip Mark) expr.Any {
	return &expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: native(mask), Xor: native(flip)}
}

func native(m Mark) []byte { return binaryutil.NativeEndian.PutUint32(uint32(m)) }

// isTranslated matches packets whose destination connection tracking has changed.
func isTranslated() statement {
	const dstNAT = 1 << 5 // uapi linux/netfilter/nf_conntrack_common.h: IPS_DST_NAT
	return statement{"ct status dnat", []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: reg1}, bits(dstNAT, 0),
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: make([]byte, 4)},
	}}
}

func counter() statement { return statement{"counter", []expr.Any{&expr.Counter{}}} }

// loop sends a copy of a packet to lo, where it arrives as a packet from outside does.
// Family is that of the table: the expression does not exist in the family inet.
func loop(family nftables.TableFamily) statement {
	to := netip.IPv6Loopback()
	if family == nftables.TableFamilyIPv4 {
		to = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return statement{fmt.Sprintf("dup to %s device \"lo\"", to), []expr.Any{
		&expr.Immediate{Register: reg1, Data: to.AsSlice()},
		&expr.Immediate{Register: reg2, Data: binaryutil.NativeEndian.PutUint32(loopbackIndex)},
		&expr.Dup{RegAddr: reg1, RegDev: reg2, IsRegDevSet: true},
	}}
}

// setDSCP6 sets the DSCP in the first two bytes of the IPv6 header: version,
// traffic class and four bits of the flow label. It matches IPv6 packets only.
func setDSCP6(dscp uint8) statement {
	const bits = 0x3f << 6
	return statement{fmt.Sprintf("ip6 dscp set 0x%02x", dscp), append(nfproto(netip.IPv6Unspecified()).exprs,
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: 0, Len: 2},
		&expr.Bitwise{
			SourceRegister: reg1, DestRegister: reg1, Len: 2,
			Mask: binary.BigEndian.AppendUint16(nil, 0xffff&^bits), Xor: binary.BigEndian.AppendUint16(nil, uint16(dscp)<<6),
		},
		&expr.Payload{
			OperationType: expr.PayloadWrite, SourceRegister: reg1,
			Base: expr.PayloadBaseNetworkHeader, Offset: 0, Len: 2,
		},
	)}
}

// setMark sets the box's bits of a mark.
func setMark(m Mark) statement {
	return statement{fmt.Sprintf("meta mark set meta mark & 0x%08x | 0x%08x", uint32(^Mask|m), uint32(m)), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg1}, bits(^Mask, m),
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg1},
	}}
}

// setPriority writes a mark into a packet's priority (skb->priority), where it outlives
// programs that overwrite whole marks. Queueing disciplines read the priority, so that lo is
// the only interface to which such a packet may go.
func setPriority(m Mark) statement {
	return statement{"meta priority set " + priority(m), []expr.Any{
		&expr.Immediate{Register: reg1, Data: native(m)},
		&expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: reg1},
	}}
}

// priorityIs matches packets by their priority.
func priorityIs(m Mark) statement {
	return statement{"meta priority " + priority(m), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPRIORITY, Register: reg1}, equal(native(m)),
	}}
}

// priority returns a priority in the syntax of nft(8).
func priority(m Mark) string { return fmt.Sprintf("%x:%x", uint32(m)>>16, uint32(m)&0xffff) }

// isFromLoopback matches packets that come in by lo.
func isFromLoopback() statement {
	return statement{"iif \"lo\"", []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIF, Register: reg1}, equal(binaryutil.NativeEndian.PutUint32(loopbackIndex)),
	}}
}

func notrack() statement { return statement{"notrack", []expr.Any{&expr.Notrack{}}} }

func tproxy(to netip.AddrPort) statement {
	family, word := byte(unix.NFPROTO_IPV6), "ip6"
	if to.Addr().Is4() {
		family, word = unix.NFPROTO_IPV4, "ip"
	}
	return statement{fmt.Sprintf("tproxy %s to %s", word, to), []expr.Any{
		&expr.Immediate{Register: reg1, Data: to.Addr().AsSlice()},
		&expr.Immediate{Register: reg2, Data: binary.BigEndian.AppendUint16(nil, to.Port())},
		&expr.TProxy{Family: family, TableFamily: unix.NFPROTO_INET, RegAddr: reg1, RegPort: reg2},
	}}
}

// queue diverts to an NFQUEUE. Without a process on the queue the packet passes.
func queue(number uint16, xt bool) statement {
	return statement{fmt.Sprintf("queue flags bypass to %d", number), []expr.Any{QueueExpr(number, true, xt)}}
}

// QueueExpr returns an expression that sends packets to an NFQUEUE: the native one, or
// the xt target through nft_compat. With bypass, packets pass while no process listens
// on the queue; without, they are dropped.
func QueueExpr(number uint16, bypass, throughXT bool) expr.Any {
	if !throughXT {
		q := &expr.Queue{Num: number}
		if bypass {
			q.Flag = expr.QueueFlagBypass
		}
		return q
	}
	// struct xt_NFQ_info_v3, padded to 8 bytes (XT_ALIGN):
	// u16 queuenum, u16 queues_total, u16 flags (bit 0: bypass), native endian.
	info := make(xt.Unknown, 8)
	binary.NativeEndian.PutUint16(info[0:], number)
	binary.NativeEndian.PutUint16(info[2:], 1)
	if bypass {
		binary.NativeEndian.PutUint16(info[4:], 1)
	}
	return &expr.Target{Name: "NFQUEUE", Rev: 3, Info: &info}
}

func rejectReset() statement {
	return statement{"reject with tcp reset", []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}}
}

// rejectICMP answers with the ICMP or ICMPv6 error of a name that nft(8) uses.
func rejectICMP(name string) statement {
	code := map[string]uint8{
		"no-route":         unix.NFT_REJECT_ICMPX_NO_ROUTE,
		"host-unreachable": unix.NFT_REJECT_ICMPX_HOST_UNREACH,
		"admin-prohibited": unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED,
		"port-unreachable": unix.NFT_REJECT_ICMPX_PORT_UNREACH,
	}[name]
	return statement{"reject with icmpx " + name, []expr.Any{
		&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: code},
	}}
}

func accept() statement { return verdictOf("accept", expr.Verdict{Kind: expr.VerdictAccept}) }
func drop() statement   { return verdictOf("drop", expr.Verdict{Kind: expr.VerdictDrop}) }

func jump(chain string) statement {
	return verdictOf("jump "+chain, expr.Verdict{Kind: expr.VerdictJump, Chain: chain})
}

func verdictOf(text string, v expr.Verdict) statement { return statement{text, []expr.Any{&v}} }
