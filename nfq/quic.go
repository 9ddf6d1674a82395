//go:build linux

package nfq

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// QUIC has the hosts and paths whose QUIC is refused, so that browsers use TCP, which can be
// bonded: UDP to port 443 from the plain side to a path. The zero QUIC refuses nothing.
type QUIC struct {
	Rules []QUICRule // the first one that matches applies
	Paths []string   // interfaces of the paths over which QUIC is refused, unless a rule decides
}

// QUICRule decides about the QUIC of clients in From to servers in To. An empty list matches
// all. ByPath leaves the decision to the path.
type QUICRule struct {
	From, To []netip.Prefix
	Then     QUICThen
}

// QUICThen is the decision of a [QUICRule].
type QUICThen uint8

// The decisions.
const (
	ByPath QUICThen = iota
	PassQUIC
	RejectQUIC
)

// refuses reports whether any QUIC is refused.
func (q *QUIC) refuses() bool {
	for _, r := range q.Rules {
		if r.Then == RejectQUIC {
			return true
		}
	}
	return len(q.Paths) > 0
}

// chains returns the chains for QUIC, the jumped-to ones first; none if nothing is refused.
// They come where SYNs are held, after the filters of other programs.
func (q *QUIC) chains() []chain {
	if !q.refuses() {
		return nil
	}
	byPath := chain{name: "quic_paths"}
	for _, name := range q.Paths {
		byPath.rules = append(byPath.rules, rule{oifnameIs(name), rejectICMP("port-unreachable")})
	}
	byRule := chain{name: "quic_rules"}
	for _, r := range q.Rules {
		byRule.rules = append(byRule.rules, r.rules()...)
	}
	byRule.rules = append(byRule.rules, rule{jump(byPath.name)})
	return []chain{byPath, byRule, {"quic", nftables.ChainHookForward, "forward", HoldPriority, []rule{
		{iifname("plain"), oifname("paths"), toQUIC(), jump(byRule.name)},
	}}}
}

// rules returns a rule for each pair of prefixes of one address family.
func (r QUICRule) rules() (all []rule) {
	any := []netip.Prefix{{}}
	from, to := r.From, r.To
	if len(from) == 0 {
		from = any
	}
	if len(to) == 0 {
		to = any
	}
	for _, f := range from {
		for _, t := range to {
			if f.IsValid() && t.IsValid() && f.Addr().Is4() != t.Addr().Is4() {
				continue
			}
			var match rule
			if f.IsValid() {
				match = append(match, within(true, f))
			}
			if t.IsValid() {
				match = append(match, within(false, t))
			}
			all = append(all, append(match, r.Then.statements()...))
		}
	}
	return all
}

func (t QUICThen) statements() []statement {
	switch t {
	case RejectQUIC:
		return []statement{rejectICMP("port-unreachable")}
	case PassQUIC:
		return []statement{accept()}
	}
	return []statement{verdictOf("goto quic_paths", expr.Verdict{Kind: expr.VerdictGoto, Chain: "quic_paths"})}
}

// toQUIC matches UDP to the port of HTTP/3.
func toQUIC() statement {
	return statement{"udp dport 443", []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1}, equal([]byte{unix.IPPROTO_UDP}),
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, equal([]byte{443 >> 8, 443 & 0xff}),
	}}
}

// oifnameIs matches packets that leave by an interface.
func oifnameIs(name string) statement {
	return statement{`oifname "` + name + `"`, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg1}, equal(InterfaceName(name)),
	}}
}

// within matches packets whose source or destination is in a prefix.
func within(source bool, p netip.Prefix) statement {
	// Offsets of the addresses: RFC 8200, section 3; RFC 791, section 3.1.
	word, offset, side := "ip6", uint32(24), "daddr"
	if p.Addr().Is4() {
		word, offset = "ip", 16
	}
	size := uint32(p.Addr().BitLen() / 8)
	if source {
		side, offset = "saddr", offset-size
	}
	mask := make([]byte, size)
	for bit := range p.Bits() {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	return statement{word + " " + side + " " + p.String(), append(nfproto(p.Addr()).exprs,
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: size, Mask: mask, Xor: make([]byte, size)},
		equal(p.Masked().Addr().AsSlice()),
	)}
}
