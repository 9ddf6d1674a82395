package socks

import (
	"net/netip"
	"strconv"
	"strings"
)

// Destination is where a client wants to connect to: an address, or a name, and a port.
type Destination struct {
	Addr netip.Addr // invalid if there is a name; never an IPv4-mapped IPv6 address
	Name string     // in lower case, without the dot at its end
	Port uint16
}

// NewDestination returns the destination with that host, a name or the text of an
// address, and port. The error is [BadName] or [BadPort].
func NewDestination(host string, port uint16) (Destination, error) {
	d := Destination{Port: port}
	host = strings.TrimSuffix(host, ".")
	if addr, err := netip.ParseAddr(host); err == nil && addr.Zone() == "" {
		d.Addr = addr.Unmap()
	} else {
		d.Name = strings.ToLower(host)
	}
	return d, d.validate()
}

// AddrDestination returns the destination with that address and port.
func AddrDestination(to netip.AddrPort) Destination {
	return Destination{Addr: to.Addr().Unmap().WithZone(""), Port: to.Port()}
}

// String returns host and port, such as "example.com:443" or "[2001:db8::1]:443".
func (d Destination) String() string {
	if d.Addr.IsValid() {
		return netip.AddrPortFrom(d.Addr, d.Port).String()
	}
	return d.Name + ":" + strconv.Itoa(int(d.Port))
}

// validate returns BadName or BadPort, if the destination has one.
func (d Destination) validate() error {
	switch {
	case !d.Addr.IsValid() && !isHostName(d.Name):
		return BadName
	case d.Port == 0:
		return BadPort
	}
	return nil
}

// Sizes of names (RFC 1035, section 2.3.4; without the last dot).
const (
	maxName  = 253
	maxLabel = 63
)

// isHostName reports whether a resolver can take the name: labels of letters, digits,
// hyphens and underscores. Underscores are no part of host names (RFC 1123, section 2.1),
// but in use. The last label is no number: some resolvers take 127.1, 0x7f.1 and
// 2130706433 for addresses (inet_aton), and no top-level domain is one.
func isHostName(name string) bool {
	if len(name) > maxName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabel {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return !isNumber(name[strings.LastIndexByte(name, '.')+1:])
}

// isNumber reports whether inet_aton takes the label for a number: decimal, octal, or
// hexadecimal behind 0x.
func isNumber(label string) bool {
	digits := "0123456789"
	if hex, found := strings.CutPrefix(label, "0x"); found {
		label, digits = hex, digits+"abcdef"
	}
	return strings.Trim(label, digits) == ""
}
