package config

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/synbond/synbond/internal/paths"
)

// Values that are written as text. Each implements [encoding.TextUnmarshaler], with
// errors that name the permitted values.
type (
	// Duration is a positive time, such as "20s".
	Duration struct{ time.Duration }
	// Rate is in bit/s, written as "20mbit".
	Rate uint64
	// Size is in bytes, written as "10GB".
	Size uint64
	// Address is an IP address with a port.
	Address struct{ netip.AddrPort }
	// Prefix is an IP prefix, or a single address.
	Prefix struct{ netip.Prefix }
	// Ports is a range of TCP ports, both ends included, written as "443" or "8000-8999".
	Ports struct{ First, Last uint16 }
	// Server is a SOCKS server, written as "socks5://alice@gw.example:1080".
	Server struct {
		Host string // a name or an address
		Port uint16
		User string // "" for none
	}
	// Level is a level of log messages.
	Level struct{ slog.Level }
)

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	switch {
	case err != nil:
		return errors.New("want a time with its unit, such as 500ms, 20s or 2h")
	case v <= 0:
		return errors.New("want a time above 0")
	}
	d.Duration = v
	return nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (r *Rate) UnmarshalText(b []byte) error {
	v, err := paths.ParseRate(string(b))
	if err != nil {
		return errors.New("want a number and bit, kbit, mbit or gbit, such as 20mbit")
	}
	*r = Rate(v)
	return nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Size) UnmarshalText(b []byte) error {
	v, err := paths.ParseSize(string(b))
	if err != nil {
		return errors.New("want a number and B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, such as 10GB")
	}
	*s = Size(v)
	return nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (a *Address) UnmarshalText(b []byte) (err error) {
	if a.AddrPort, err = netip.ParseAddrPort(string(b)); err != nil {
		return errors.New("want an address with its port, such as 203.0.113.1:9000 or [2001:db8::1]:9000")
	}
	a.AddrPort = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	return nil
}

// UnmarshalText implements [encoding.TextUnmarshaler]. Addresses of IPv4 in the form of IPv6
// (RFC 4291, section 2.5.5.2) are taken as those of IPv4: flows have them in that form.
func (p *Prefix) UnmarshalText(b []byte) error {
	v, err := netip.ParsePrefix(string(b))
	if a, err2 := netip.ParseAddr(string(b)); err2 == nil && a.Zone() == "" {
		v, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil {
		return errors.New("want a prefix such as 192.0.2.0/24 or 2001:db8::/32, or an address")
	}
	if mapped := v.Bits() - 96; v.Addr().Is4In6() && mapped >= 0 {
		v = netip.PrefixFrom(v.Addr().Unmap(), mapped)
	}
	p.Prefix = v.Masked()
	return nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *Ports) UnmarshalText(b []byte) error {
	first, last, isRange := strings.Cut(string(b), "-")
	if !isRange {
		last = first
	}
	from, err := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
	to, err2 := strconv.ParseUint(strings.TrimSpace(last), 10, 16)
	if err = errors.Join(err, err2); err != nil || from > to {
		return errors.New("want a port such as \"443\", or a range such as \"8000-8999\"")
	}
	*p = Ports{uint16(from), uint16(to)}
	return nil
}

// UnmarshalText implements [encoding.TextUnmarshaler]. Its errors have no part of the text,
// which may have a password.
func (s *Server) UnmarshalText(b []byte) error {
	u, err := url.Parse(string(b))
	if err != nil || u.Scheme != "socks5" || u.Hostname() == "" || u.Opaque != "" {
		return errors.New("want a SOCKS server such as socks5://alice@gw.example:1080 or socks5://[2001:db8::1]:1080")
	}
	if _, there := u.User.Password(); there {
		return errors.New("want the user without a password: put that into a file, and name it by --password-file or password_file")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case err != nil || port == 0:
		return errors.New("want a port from 1 to 65535 behind the host, such as :1080")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return errors.New("want nothing behind the port")
	case len(u.User.Username()) > 255:
		return errors.New("want a user of at most 255 bytes (RFC 1929)")
	case u.User != nil && u.User.Username() == "":
		return errors.New("want a user before the @, or no @")
	}
	*s = Server{Host: strings.TrimSuffix(u.Hostname(), "."), Port: uint16(port), User: u.User.Username()}
	return nil
}

// String returns the server as it is written.
func (s Server) String() string {
	u := url.URL{Scheme: "socks5", Host: net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port)))}
	if s.User != "" {
		u.User = url.User(s.User)
	}
	return u.String()
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (l *Level) UnmarshalText(b []byte) error {
	if l.Level.UnmarshalText(b) != nil {
		return errors.New("want debug, info, warn or error")
	}
	return nil
}
