package core

import (
	"encoding/binary"
	"net/netip"

	"github.com/synbond/synbond/rewrite"
)

// NewSYN returns a SYN as an ordinary host sends it, in an IP packet: with the MSS of
// Ethernet, and with MP_CAPABLE if it is capable. Both ends must be of one address family.
func NewSYN(client, server netip.AddrPort, capable bool) []byte {
	const protocolTCP, hopLimit, window, words = 6, 64, 64240, 6
	tcp := make([]byte, 4*words)
	binary.BigEndian.PutUint16(tcp[0:], client.Port())
	binary.BigEndian.PutUint16(tcp[2:], server.Port())
	tcp[12], tcp[13] = words<<4, byte(rewrite.SYN)
	binary.BigEndian.PutUint16(tcp[14:], window)
	copy(tcp[20:], []byte{2, 4, 1440 >> 8, 1440 & 0xff}) // MSS
	if capable {
		tcp[12] += 1 << 4
		tcp = append(tcp, capableSYN...)
	}
	src, dst := client.Addr().AsSlice(), server.Addr().AsSlice()
	length := uint16(len(tcp))
	// RFC 9293, section 3.1; RFC 8200, section 8.1: the same sum for both families.
	pseudo := []byte{0, protocolTCP, byte(length >> 8), byte(length)}
	binary.BigEndian.PutUint16(tcp[16:], rewrite.Checksum(src, dst, pseudo, tcp))
	var ip []byte
	if client.Addr().Is4() {
		ip = []byte{0x45, 0, 0, byte(20 + len(tcp)), 0, 0, 0x40, 0, hopLimit, protocolTCP, 0, 0}
		ip = append(append(ip, src...), dst...)
		binary.BigEndian.PutUint16(ip[10:], rewrite.Checksum(ip))
	} else {
		ip = []byte{0x60, 0, 0, 0, 0, byte(len(tcp)), protocolTCP, hopLimit}
		ip = append(append(ip, src...), dst...)
	}
	return append(ip, tcp...)
}
