package config

import (
	"net/netip"
	"testing"
)

func TestAddressesOfIPv4AreTheSameInTheFormOfIPv6(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "192.0.2.7/24": "192.0.2.0/24", "::ffff:192.0.2.7": "192.0.2.7/32",
		"::ffff:192.0.2.7/120": "192.0.2.0/24", "::ffff:0:0/96": "0.0.0.0/0", "2001:db8::7/32": "2001:db8::/32", "::/0": "::/0",
	} {
		var p Prefix
		if err := p.UnmarshalText([]byte(text)); err != nil || p.Prefix != netip.MustParsePrefix(want) {
			t.Errorf("%s: %v, error %v; want %s", text, p, err, want)
		}
	}
	for _, text := range []string{"fe80::1%eth0", "fe80::1%eth0/64", "192.0.2.0/33", "home"} {
		if err := new(Prefix).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken as a prefix", text)
		}
	}
	var a Address
	if err := a.UnmarshalText([]byte("[::ffff:192.0.2.7]:9000")); err != nil || a.AddrPort != netip.MustParseAddrPort("192.0.2.7:9000") {
		t.Errorf("%v, error %v", a, err)
	}
}
