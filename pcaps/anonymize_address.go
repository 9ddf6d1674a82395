package pcaps

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
)

// mapper maps addresses and other values to others, by a secret.
type mapper struct {
	secret [32]byte
	block  cipher.Block
	known  map[netip.Addr]netip.Addr
}

// mostKnown bounds the addresses that are remembered; what is forgotten is mapped once more, to
// the same address.
const mostKnown = 1 << 18

func (m *mapper) init(secret [32]byte) {
	m.secret, m.known = secret, make(map[netip.Addr]netip.Addr)
	m.block, _ = aes.NewCipher(secret[:16]) // 16 bytes are a key
}

// hash returns 32 bytes for a value of a kind.
func (m *mapper) hash(kind string, value []byte) [32]byte {
	h := hmac.New(sha256.New, m.secret[:])
	h.Write([]byte(kind))
	h.Write(value)
	return [32]byte(h.Sum(nil))
}

// key maps an MPTCP key.
func (m *mapper) key(key uint64) uint64 {
	sum := m.hash("key", binary.BigEndian.AppendUint64(nil, key))
	return binary.BigEndian.Uint64(sum[:])
}

// mac changes the hardware address at an offset, but not the broadcast address. The first
// four bits stay: behind MPLS they tell Ethernet from IP (RFC 8469, section 3).
func (m *mapper) mac(b []byte, at int) {
	const size, nibble, group, local = 6, 0xf0, 1, 2
	if len(b) < at+size {
		zero(b, at, len(b))
		return
	}
	address := b[at : at+size]
	if string(address) == "\xff\xff\xff\xff\xff\xff" || string(address) == "\x00\x00\x00\x00\x00\x00" {
		return
	}
	sum := m.hash("mac", address)
	sum[0] = sum[0]&^(nibble|group|local) | address[0]&(nibble|group) | local
	copy(address, sum[:])
}

// address writes the address for one of 4 or 16 bytes.
func (m *mapper) address(out, in []byte) {
	a, ok := netip.AddrFromSlice(in)
	if !ok {
		clear(out)
		return
	}
	copy(out, m.ip(a).AsSlice())
}

// meanings are prefixes with a meaning for a box or a reader: they stay.
var meanings = func() (all []netip.Prefix) {
	for _, text := range []string{
		"0.0.0.0/32", "255.255.255.255/32", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
		"224.0.0.0/4", "::/128", "::1/128", "64:ff9b::/96", "::ffff:0:0/96", "fc00::/7", "fe80::/64", "ff00::/16",
	} {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}()

// ip maps an address such that two addresses have as many leading bits in common as before
// (Xu et al., Prefix-Preserving IP Address Anonymization, 2002). The first three bits stay, so
// that unicast addresses do not become others.
func (m *mapper) ip(a netip.Addr) netip.Addr {
	if out, ok := m.known[a]; ok {
		return out
	}
	keep := 3
	for _, p := range meanings {
		if p.Contains(a) {
			keep = p.Bits()
		}
	}
	if a.Is6() && a.IsMulticast() {
		keep = 16 // flags and scope
	}
	b := a.AsSlice()
	out := make([]byte, len(b))
	for bit := range 8 * len(b) {
		flip := byte(0)
		if bit >= keep {
			flip = m.flips(b, bit)
		}
		mask := byte(0x80) >> (bit % 8)
		out[bit/8] |= (b[bit/8] ^ -flip) & mask
	}
	mapped, _ := netip.AddrFromSlice(out)
	if len(m.known) >= mostKnown {
		clear(m.known)
	}
	m.known[a] = mapped
	return mapped
}

// flips returns 1 if the bit behind the first n bits of an address is to change.
func (m *mapper) flips(b []byte, n int) byte {
	var block [aes.BlockSize]byte
	copy(block[:], b[:n/8])
	if n%8 != 0 {
		block[n/8] = b[n/8] & ^(byte(0xff) >> (n % 8))
	}
	block[aes.BlockSize-1] ^= byte(n) // an address of 128 bits ends before its last bit
	block[0] ^= byte(len(b))
	m.block.Encrypt(block[:], block[:])
	return block[0] & 1
}

// ipHeader changes an IP header with its options or extension headers, whose end is that of
// in. The checksum of IPv4 stays right, or wrong.
func (m *mapper) ipHeader(out, in []byte) {
	switch {
	case len(in) >= ipv4Size && in[0]>>4 == 4:
		size := min(len(in), max(ipv4Size, int(in[0]&0xf)*4))
		copy(out, in[:ipv4Size])
		m.address(out[12:16], in[12:16])
		m.address(out[16:20], in[16:20])
		m.options4(out[ipv4Size:size], in[ipv4Size:size])
		sum := sums{field: 10}
		sum.set(out[:size], in[:size])
	case len(in) >= ipv6Size && in[0]>>4 == 6:
		copy(out, in[:ipv6Size])
		m.address(out[8:24], in[8:24])
		m.address(out[24:40], in[24:40])
		m.extensions(out, in)
	default:
		copy(out, in[:min(len(in), 1)])
	}
}

// options4 changes the options of IPv4: addresses of routes are mapped, other values zero.
func (m *mapper) options4(out, in []byte) {
	const end, nop = 0, 1
	routes := map[byte]bool{7: true, 131: true, 137: true} // RFC 791, section 3.1
	for at := 0; at < len(in) && in[at] != end; {
		if in[at] == nop {
			out[at] = nop
			at++
			continue
		}
		copy(out[at:], in[at:min(len(in), at+2)])
		if at+1 >= len(in) || in[at+1] < 2 || at+int(in[at+1]) > len(in) {
			return
		}
		to := at + int(in[at+1])
		if routes[in[at]] && to >= at+3 {
			out[at+2] = in[at+2]
			for hop := at + 3; hop+4 <= to; hop += 4 {
				m.address(out[hop:hop+4], in[hop:hop+4])
			}
		}
		at = to
	}
}

// extensions changes the extension headers of IPv6 that transport6 knows. Bodies of options
// become padding.
func (m *mapper) extensions(out, in []byte) {
	const routing, fragment, authentication = 43, 44, 51
	next := in[6]
	for at := ipv6Size; at+8 <= len(in); {
		size := 8 + int(in[at+1])*8
		copy(out[at:], in[at:at+2])
		switch next {
		case 0, 60:
		case routing:
			copy(out[at:], in[at:at+8])
			for hop := at + 8; hop+16 <= min(at+size, len(in)); hop += 16 {
				m.address(out[hop:hop+16], in[hop:hop+16])
			}
		case fragment:
			size = 8
			copy(out[at:], in[at:at+8])
		case authentication:
			size = 8 + int(in[at+1])*4
		default:
			zero(out, at, at+2)
			return
		}
		next = in[at]
		at += size
	}
}
