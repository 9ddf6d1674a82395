package socks

import (
	"bytes"
	"net"
	"net/netip"

	"github.com/things-go/go-socks5/statute"
)

// A frame function returns the length of the message at the beginning of b, 0 if b is too
// short to tell. It looks at no version; its error is a [Reason].
type frame func(b []byte) (int, error)

// frameGreeting: version, number of methods, methods.
func frameGreeting(b []byte) (int, error) {
	if len(b) < 2 {
		return 0, nil
	}
	return 2 + int(b[1]), nil
}

// frameLogin: version, length of the user, user, length of the password, password.
func frameLogin(b []byte) (int, error) {
	if len(b) < 2 {
		return 0, nil
	}
	user := 2 + int(b[1])
	if len(b) <= user {
		return 0, nil
	}
	return user + 1 + int(b[user]), nil
}

// frameRequest: version, command, reserved, address type, address, port. A reply has
// the same shape.
func frameRequest(b []byte) (int, error) {
	if len(b) < 4 {
		return 0, nil
	}
	switch b[3] {
	case statute.ATYPIPv4:
		return 4 + net.IPv4len + 2, nil
	case statute.ATYPIPv6:
		return 4 + net.IPv6len + 2, nil
	case statute.ATYPDomain:
		if len(b) < 5 {
			return 0, nil
		}
		return 5 + int(b[4]) + 2, nil
	}
	return 0, BadAddressType
}

// frameChoice: version, and a method or a status.
func frameChoice([]byte) (int, error) { return 2, nil }

// destinationOf returns the destination of a request. The error is a [Reason].
func destinationOf(a statute.AddrSpec) (Destination, error) {
	if a.AddrType == statute.ATYPDomain {
		return NewDestination(a.FQDN, uint16(a.Port))
	}
	addr, _ := netip.AddrFromSlice(a.IP)
	d := Destination{Addr: addr.Unmap(), Port: uint16(a.Port)}
	return d, d.validate()
}

// specOf is the opposite of destinationOf. No address and no name become 0.0.0.0.
func specOf(d Destination) statute.AddrSpec {
	a := statute.AddrSpec{Port: int(d.Port)}
	switch {
	case d.Name != "":
		a.AddrType, a.FQDN = statute.ATYPDomain, d.Name
	case d.Addr.Is6():
		a.AddrType, a.IP = statute.ATYPIPv6, d.Addr.AsSlice()
	case d.Addr.Is4():
		a.AddrType, a.IP = statute.ATYPIPv4, d.Addr.AsSlice()
	default:
		a.AddrType, a.IP = statute.ATYPIPv4, net.IPv4zero
	}
	return a
}

// appendReply appends a reply with the address from which the server has dialed.
func appendReply(out []byte, r Reply, bound netip.AddrPort) []byte {
	message := statute.Reply{Version: statute.VersionSocks5, Response: uint8(r), BndAddr: specOf(AddrDestination(bound))}
	return append(out, message.Bytes()...)
}

// appendLogin appends user and password (RFC 1929). The library's encoder would leave
// copies of the password in slices that are too short.
func appendLogin(out []byte, l Login) []byte {
	out = append(out, statute.UserPassAuthVersion, byte(len(l.User)))
	out = append(out, l.User...)
	out = append(out, byte(len(l.Password)))
	return append(out, l.Password...)
}

// parseReply reads a whole reply. The bound address is invalid if the reply has a name.
func parseReply(message []byte) (bound netip.AddrPort, err error) {
	r, err := statute.ParseReply(bytes.NewReader(message))
	if err != nil {
		return bound, BadAddressType
	}
	addr, _ := netip.AddrFromSlice(r.BndAddr.IP)
	return netip.AddrPortFrom(addr.Unmap(), uint16(r.BndAddr.Port)), nil
}
