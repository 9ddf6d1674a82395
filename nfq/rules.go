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

// chains returns the box's rules in the order in which a packet meets them.
func (r Rules) chains() []chain {
	divert := chain{"divert", nftables.ChainHookPrerouting, "prerouting", -300, nil}
	deliver := chain{"deliver", nftables.ChainHookPrerouting, "prerouting", -290, nil}
	answers := chain{"answers", nftables.ChainHookPrerouting, "prerouting", -285, nil}
	reject := chain{"reject", nftables.ChainHookPrerouting, "prerouting", -140, nil}
	strays := chain{name: "strays"}
	emit := chain{"emit", nftables.ChainHookOutput, "output", -300, nil}

	sides := []struct {
		name, opposite string
		listeners      []netip.AddrPort
	}{{"plain", "paths", r.Listeners.Plain}, {"paths", "plain", r.Listeners.Paths}}
	for _, side := range sides {
		for _, l := range side.listeners {
			family := nfproto(l.Addr())
			// What is routed from one side to the other is the box's business; what
			// stays on a side, or is meant for this machine, is not.
			divert.rules = append(divert.rules,
				rule{family, isSYN(), iifname(side.name), fibOIF(side.opposite), queue(r.Queue, r.xtQueue)})
			// tproxy comes before the socket matches: it is tproxy that replaces a
			// connection in TIME-WAIT when the client uses its port again.
			deliver.rules = append(deliver.rules,
				rule{markIs(Relay), family, isTCP(), iifname(side.name), notrack(), tproxy(l), accept()})
		}
	}
	// An own address needs no mark to be delivered, and its packets stay tracked:
	// joins, and connections from the box's own source.
	deliver.rules = append(deliver.rules,
		rule{iifname("plain"), socketMark(PlainSocket), setMark(Relay), notrack(), accept()},
		rule{iifname("paths"), socketMark(PathSocket), fibNotLocal("daddr"), setMark(Relay), notrack(), accept()})
	for _, side := range sides {
		deliver.rules = append(deliver.rules,
			rule{iifname(side.name), socketTransparent(), fibNotLocal("daddr"), jump(strays.name)})
	}
	// The two legs of a flow share one 5-tuple: what one of them sent, and a router has
	// sent back, bears that of the other. The rest are handshakes and closed connections,
	// of which the kernel does not know the mark: not yet, for a handshake may have ended
	// between two rules.
	strays.rules = []rule{
		{iifname("plain"), socketMark(PathSocket), drop()},
		{iifname("paths"), socketMark(PlainSocket), drop()},
		{setMark(Relay), notrack(), accept()},
	}
	// The legs differ in sequence numbers: conntrack would take one of them for invalid.
	emit.rules = []rule{
		{sentBy(PlainSocket), notrack()},
		{sentBy(PathSocket), fibNotLocal("saddr"), notrack()},
	}
	reject.rules = []rule{
		{markIs(Refused), isTCP(), rejectReset()},
		{markIs(NoRoute), rejectICMP("no-route")},
		{markIs(HostUnreachable), rejectICMP("host-unreachable")},
		{markIs(Prohibited), rejectICMP("admin-prohibited")},
	}
	class := chain{"class", nftables.ChainHookOutput, "output", -150, []rule{{withoutDSCP(), accept()}}}
	for _, dscp := range codePoints {
		class.rules = append(class.rules, rule{markIs(PathSocket.WithDSCP(dscp)), setDSCP6(dscp)})
	}
	if !r.Answers {
		return []chain{divert, strays, deliver, reject, emit, class}
	}
	// Those of the box's own connections have got their mark in deliver.
	for _, way := range [][2]string{{"plain", "paths"}, {"paths", "plain"}} {
		answers.rules = append(answers.rules,
			rule{markIsNot(Relay), isSYNACK(), iifname(way[0]), fibOIF(way[1]), queue(r.Queue, r.xtQueue)})
	}
	return []chain{divert, strays, deliver, answers, reject, emit, class}
}

// String returns the rules in the syntax of nft(8), fit for `nft -f`.
func (r Rules) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", r.table())
	for _, s := range r.sets() {
		fmt.Fprintf(&b, "\tset %s {\n\t\ttype ifname\n\t\telements = { \"%s\" }\n\t}\n\n", s.name, strings.Join(s.elements, `", "`))
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
