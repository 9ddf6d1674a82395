package nfq

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Rules are the nftables rules of one box.
type Rules struct {
	Role         string   // names the table: synbond_ROLE
	Plain, Paths []string // interface names of the plain and of the multipath side
	Queue        uint16
	Listeners    Listeners
	// Joins are where the HAG takes further subflows, at most one per address family
	// and path, and Takes tells that the box is the HAG.
	Joins []netip.AddrPort
	Takes bool
	// Answers also diverts the SYN+ACKs of connections that the box does not relay.
	Answers bool

	// xtQueue diverts with the xt NFQUEUE target through nft_compat, for
	// kernels without the native queue expression (CONFIG_NFT_QUEUE).
	xtQueue bool
}

// Listeners are where the released SYNs of each side go, at most one per address
// family. A family without a listener is left alone.
type Listeners struct{ Plain, Paths []netip.AddrPort }

// rule is one nftables rule: a conjunction of matches that ends in statements.
type rule []term

// term is a piece of a rule, as nft(8) writes it and as the kernel takes it.
type term struct {
	text  string
	exprs []expr.Any
}

// chain is a chain with its rules. Every chain's policy is accept.
type chain struct {
	name     string
	hook     *nftables.ChainHook // nil if packets come from another chain only
	hookName string
	priority nftables.ChainPriority
	rules    []rule
}

// set is a named set of interface names.
type set struct {
	name     string
	elements []string
}

func (r Rules) table() string { return tableName(r.Role) }

func tableName(role string) string { return "synbond_" + role }

func (r Rules) sets() []set {
	return []set{{"plain", r.Plain}, {"paths", r.Paths}}
}

// side is one of the two between which a box relays.
type side struct {
	name, opposite string   // sets of interfaces
	beyond         []string // those of the opposite side
	listeners      []netip.AddrPort
}

func (r Rules) sides() []side {
	return []side{{"plain", "paths", r.Paths, r.Listeners.Plain}, {"paths", "plain", r.Plain, r.Listeners.Paths}}
}

// chains returns the box's rules in the order in which a packet meets them.
func (r Rules) chains() []chain {
	all := []chain{r.syns(), divert(), r.released(), strays(), r.deliver()}
	if r.Answers {
		all = append(all, r.answers())
	}
	return append(all, refused(), refuse(), r.emit(), class())
}

// divert looks at SYNs only.
func divert() chain {
	return chain{"divert", nftables.ChainHookPrerouting, "prerouting", -300, []rule{{isSYN(), jump("syns")}}}
}

// syns queues the SYNs that are routed from one side to the other. What stays on a
// side, or is meant for this machine, is not the box's business, nor what a host has to
// say to the HAG where that takes joins.
func (r Rules) syns() chain {
	c := chain{name: "syns"}
	if !r.Takes {
		c.rules = r.joins(false)
	}
	for _, s := range r.sides() {
		for _, l := range s.listeners {
			c.rules = append(c.rules,
				rule{nfproto(l.Addr()), iifname(s.name), fibOIF(s.opposite, s.beyond), queue(r.Queue, r.xtQueue)})
		}
	}
	return c
}

// deliver gives the box's sockets what is theirs.
func (r Rules) deliver() chain {
	c := chain{"deliver", nftables.ChainHookPrerouting, "prerouting", -290, []rule{
		// The listeners come before the socket matches: it is tproxy that replaces a
		// connection in TIME-WAIT when the client uses its port again.
		{markIs(Relay), jump("released")},
		{iifname("plain"), socketMark(PlainSocket), setMark(Relay), notrack(), accept()},
	}}
	c.rules = append(c.rules, r.joins(!r.Takes)...)
	c.rules = append(c.rules, rule{iifname("paths"), socketMark(PathSocket), setMark(Relay), notrack(), accept()})
	for _, s := range r.sides() {
		c.rules = append(c.rules,
			rule{iifname(s.name), socketTransparent(), fibNotLocal("daddr"), jump("strays")})
	}
	return c
}

// released gives the SYNs that the box has released to the listener of their side.
func (r Rules) released() chain {
	c := chain{name: "released"}
	for _, s := range r.sides() {
		for _, l := range s.listeners {
			c.rules = append(c.rules,
				rule{nfproto(l.Addr()), isTCP(), iifname(s.name), notrack(), tproxy(l), accept()})
		}
	}
	return c
}

// joins accepts the packets of further subflows that have the HAG's end as their
// source, or as their destination. These have an address of the machine's own, need
// no mark to be delivered, and stay tracked, as does what an [OwnSocket] sends and gets.
func (r Rules) joins(source bool) (rules []rule) {
	for _, j := range r.Joins {
		rules = append(rules, rule{endIs(source, j), accept()})
	}
	return rules
}

// strays drops what belongs to a socket that faces the other side: the two legs of a
// flow share one 5-tuple, so what one of them sent, and a router has sent back, bears
// that of the other. The rest are handshakes and closed connections, of which the
// kernel does not know the mark: not yet, for a handshake may have ended between two
// rules.
func strays() chain {
	return chain{name: "strays", rules: []rule{
		{iifname("plain"), socketMark(PathSocket), drop()},
		{iifname("paths"), socketMark(PlainSocket), drop()},
		{setMark(Relay), notrack(), accept()},
	}}
}

// answers queues SYN+ACKs, but those of the box's own connections: these have got
// their mark in deliver.
func (r Rules) answers() chain {
	c := chain{"answers", nftables.ChainHookPrerouting, "prerouting", -285, nil}
	for _, s := range r.sides() {
		c.rules = append(c.rules,
			rule{markIsNot(Relay), isSYNACK(), iifname(s.name), fibOIF(s.opposite, s.beyond), queue(r.Queue, r.xtQueue)})
	}
	return c
}

// refuse looks at what bears one of the marks of refused SYNs only.
func refuse() chain {
	return chain{"refuse", nftables.ChainHookPrerouting, "prerouting", -140, []rule{{isRefused(), jump("refused")}}}
}

// refused answers the SYNs that the box has refused.
func refused() chain {
	return chain{name: "refused", rules: []rule{
		{markIs(Refused), isTCP(), rejectReset()},
		{markIs(NoRoute), rejectICMP("no-route")},
		{markIs(HostUnreachable), rejectICMP("host-unreachable")},
		{markIs(Prohibited), rejectICMP("admin-prohibited")},
	}}
}

// emit keeps from conntrack what the box's sockets send: the legs of a flow differ in
// sequence numbers, so it would take one of them for invalid.
//
// A reset in another host's name that no socket sends answers a segment for which
// deliver found a socket, and TCP a moment later did not: another core was putting the
// connection in the place of its handshake. The connection lives on, and its peer
// sends again what TCP did not take, unless the reset reaches it.
func (r Rules) emit() chain {
	c := chain{"emit", nftables.ChainHookOutput, "output", -300, []rule{{sentBy(PlainSocket), notrack(), accept()}}}
	c.rules = append(c.rules, r.joins(r.Takes)...)
	c.rules = append(c.rules, rule{sentBy(PathSocket), notrack(), accept()})
	for _, s := range r.sides() {
		c.rules = append(c.rules, rule{oifname(s.name), isBareReset(), fibNotLocal("saddr"), drop()})
	}
	return c
}

// class gives what MPTCP sockets send over IPv6 the DSCP in their mark.
func class() chain {
	c := chain{"class", nftables.ChainHookOutput, "output", -150, []rule{{withoutDSCP(), accept()}}}
	for _, dscp := range codePoints {
		c.rules = append(c.rules, rule{hasDSCP(dscp), setDSCP6(dscp)})
	}
	return c
}

// String returns the rules in the syntax of nft(8), fit for `nft -f`.
func (r Rules) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", r.table())
	for _, s := range r.sets() {
		fmt.Fprintf(&b, "\tset %s {\n\t\ttype ifname\n\t\telements = { %s }\n\t}\n\n", s.name, quoted(s.elements))
	}
	for i, c := range r.chains() {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "\tchain %s {\n", c.name)
		if c.hook != nil {
			fmt.Fprintf(&b, "\t\ttype filter hook %s priority %d; policy accept;\n", c.hookName, c.priority)
		}
		for _, rule := range c.rules {
			fmt.Fprintf(&b, "\t\t%s\n", rule)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// quoted lists names of interfaces.
func quoted(names []string) string { return `"` + strings.Join(names, `", "`) + `"` }

func (r rule) String() string {
	words := make([]string, len(r))
	for i, t := range r {
		words[i] = t.text
	}
	return strings.Join(words, " ")
}

func (r rule) exprs() []expr.Any {
	var all []expr.Any
	for _, t := range r {
		all = append(all, t.exprs...)
	}
	return all
}
