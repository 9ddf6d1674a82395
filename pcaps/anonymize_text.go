package pcaps

import (
	"bytes"
	"net"
	"net/netip"
	"regexp"
	"strconv"
)

// addressLike matches what may be an IP address, perhaps with a port or a prefix length, or a
// hardware address.
var addressLike = regexp.MustCompile(`[0-9a-fA-F]*(?:[:.][0-9a-fA-F]*){2,}(?:/[0-9]+)?`)

// Text returns a text with other IP and MAC addresses, as the frames of this Anonymizer have
// them. Loopback and unspecified addresses stay.
func (a *Anonymizer) Text(text []byte) []byte {
	return addressLike.ReplaceAllFunc(text, func(b []byte) []byte {
		word, end := b, []byte(nil)
		for len(word) > 0 { // a colon or a dot behind an address belongs to the sentence
			if out, ok := a.word(string(word)); ok {
				return append([]byte(out), end...)
			}
			last := bytes.LastIndexAny(word, ":./")
			if last < 0 {
				break
			}
			word, end = b[:last], b[last:]
		}
		return b
	})
}

// word returns the text that takes the place of an address.
func (a *Anonymizer) word(text string) (string, bool) {
	if mac, err := net.ParseMAC(text); err == nil && len(mac) == 6 {
		a.mac(mac, 0)
		return mac.String(), true
	}
	if p, err := netip.ParsePrefix(text); err == nil {
		if p.Bits() < p.Addr().BitLen() && p.Masked().Addr() == p.Addr() { // a network
			return netip.PrefixFrom(a.shown(p.Addr()), p.Bits()).Masked().String(), true
		}
		return a.shown(p.Addr()).String() + "/" + strconv.Itoa(p.Bits()), true
	}
	if at, err := netip.ParseAddrPort(text); err == nil {
		return netip.AddrPortFrom(a.shown(at.Addr()), at.Port()).String(), true
	}
	if at, err := netip.ParseAddr(text); err == nil {
		return a.shown(at).String(), true
	}
	return "", false
}

func (a *Anonymizer) shown(at netip.Addr) netip.Addr {
	if at.IsLoopback() || at.IsUnspecified() {
		return at
	}
	return a.ip(at)
}
