package rewrite

import (
	"encoding/binary"
	"net/netip"
)

// AddAddr is ADD_ADDR, the announcement of a further address of the sender (RFC 6824
// and RFC 8684, section 3.4.1). [AddAddr.MakeHMAC] computes the HMAC.
//
// The option has no field for the MPTCP version. The low nibble beside the subtype is
// the IP version in RFC 6824, and three reserved bits with the echo flag in RFC 8684.
// An option without an HMAC is of version 0 if the nibble is 4 or 6, and an echo of
// version 1 if the lowest bit is set; the length shows whether there is an HMAC.
type AddAddr struct {
	Version   uint8 // 0 is RFC 6824, 1 is RFC 8684
	Echo      bool  // E, version 1 only: confirms the receipt of Address, without an HMAC
	AddressID uint8
	Address   netip.Addr // IPv4 or IPv6, without a zone; encoded as :: if invalid
	HasPort   bool
	Port      uint16 // valid if HasPort
	HMAC      uint64 // version 1 without Echo: the rightmost 64 bits
	Reserved  uint8  // version 1: the three bits above E, zero in a new option
}

const (
	addAddrHeaderSize = 4
	addAddrPortSize   = 2
	addAddrHMACSize   = 8
	echoBit           = 0x01
)

// ParseAddAddr reads one whole option. The error is [BadOption].
func ParseAddAddr(o []byte) (AddAddr, error) {
	if len(o) < addAddrHeaderSize || !isMPTCP(o, subtypeAddAddr) {
		return AddAddr{}, BadOption
	}
	nibble := o[2] & 0x0f
	a := AddAddr{Version: 1, Echo: nibble&echoBit != 0, AddressID: o[3], Reserved: nibble >> 1}
	if n := len(o); nibble == 4 && (n == 8 || n == 10) || nibble == 6 && (n == 20 || n == 22) {
		a.Version, a.Reserved = 0, 0
	}
	body := o[addAddrHeaderSize:]
	if a.hasHMAC() {
		if len(body) < addAddrHMACSize {
			return AddAddr{}, BadOption
		}
		at := len(body) - addAddrHMACSize
		a.HMAC, body = binary.BigEndian.Uint64(body[at:]), body[:at]
	}
	if !a.readEndpoint(body) {
		return AddAddr{}, BadOption
	}
	return a, nil
}

// readEndpoint reads address and port. The length shows the family and whether there
// is a port.
func (a *AddAddr) readEndpoint(b []byte) bool {
	switch len(b) {
	case 4, 4 + addAddrPortSize:
		a.Address, b = netip.AddrFrom4([4]byte(b)), b[4:]
	case 16, 16 + addAddrPortSize:
		a.Address, b = netip.AddrFrom16([16]byte(b)), b[16:]
	default:
		return false
	}
	if len(b) > 0 {
		a.HasPort, a.Port = true, binary.BigEndian.Uint16(b)
	}
	return true
}

func (a *AddAddr) hasHMAC() bool { return a.Version != 0 && !a.Echo }

// Append appends the option to b.
func (a AddAddr) Append(b []byte) []byte {
	b = append(appendMPTCP(b, a.Len(), subtypeAddAddr, a.nibble()), a.AddressID)
	b = a.appendAddress(b)
	if a.HasPort {
		b = binary.BigEndian.AppendUint16(b, a.Port)
	}
	if a.hasHMAC() {
		b = binary.BigEndian.AppendUint64(b, a.HMAC)
	}
	return b
}

func (a *AddAddr) nibble() uint8 {
	switch {
	case a.Version == 0 && a.Address.Is4():
		return 4
	case a.Version == 0:
		return 6
	case a.Echo:
		return a.Reserved<<1 | echoBit
	}
	return a.Reserved << 1
}

func (a *AddAddr) appendAddress(b []byte) []byte {
	if a.Address.Is4() {
		v4 := a.Address.As4()
		return append(b, v4[:]...)
	}
	var v6 [16]byte
	if a.Address.Is6() {
		v6 = a.Address.As16()
	}
	return append(b, v6[:]...)
}

// Len returns the size of the option in bytes: 8 to 30.
func (a AddAddr) Len() int {
	n := addAddrHeaderSize + 16
	if a.Address.Is4() {
		n = addAddrHeaderSize + 4
	}
	if a.HasPort {
		n += addAddrPortSize
	}
	if a.hasHMAC() {
		n += addAddrHMACSize
	}
	return n
}
