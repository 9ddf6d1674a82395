//go:build linux

package box

import (
	"encoding/binary"
	"slices"
)

// The queue holds packets whose hop limit the router has decremented already. The core,
// captures and recordings see packets as they came in.

// arrived gives a forwarded packet the hop limit with which it came in.
func arrived(packet []byte) { addHops(packet, 1) }

// forwarded returns a copy of a packet with the hop limit with which it goes on.
func forwarded(packet []byte) []byte {
	packet = slices.Clone(packet)
	addHops(packet, -1)
	return packet
}

// addHops changes the hop limit of an IP packet, and the header checksum of IPv4.
func addHops(packet []byte, n int8) {
	const ttl, checksum, size4 = 8, 10, 20 // RFC 791, section 3.1
	const hopLimit, size6 = 7, 40          // RFC 8200, section 3
	switch {
	case len(packet) >= size6 && packet[0]>>4 == 6:
		packet[hopLimit] += uint8(n)
	case len(packet) >= size4 && packet[0]>>4 == 4:
		was := binary.BigEndian.Uint16(packet[ttl:])
		packet[ttl] += uint8(n)
		// RFC 1624, equation 3
		sum := uint32(^binary.BigEndian.Uint16(packet[checksum:])) + uint32(^was) + uint32(binary.BigEndian.Uint16(packet[ttl:]))
		sum = sum&0xffff + sum>>16
		sum = sum&0xffff + sum>>16
		binary.BigEndian.PutUint16(packet[checksum:], ^uint16(sum))
	}
}
