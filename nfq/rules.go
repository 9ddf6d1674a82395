//go:build linux

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
	// Joins are the HAG's join addresses, at most one per address family and path.
	Joins []netip.AddrPort
	// AcceptJoins: this box is the HAG, so the join addresses are its own.
	AcceptJoins bool
	// Clamps lower the MSS on paths that lose large packets.
	Clamps []Clamp
	// QueueSYNACKs also diverts the SYN+ACKs of connections that the box does not relay.
	QueueSYNACKs bool

	// QUIC has the hosts and paths whose QUIC is refused.
	QUIC QUIC

	// Reinjects: the kernel lacks `dup` (see [Loops]), and the box itself loops the SYNs
	// that it delivers: see [QueueConfig.Reinject].
	Reinjects bool
	// Tracked: something on this machine translates destinations, by connection tracking.
	// What it has translated passes and is counted: see [Translated].
	Tracked bool

	// xtQueue diverts by the xt target NFQUEUE through nft_compat, for kernels without
	// the native queue expression (CONFIG_NFT_QUEUE).
	xtQueue bool
}

// Listeners are the box's listening addresses for the released SYNs of each side, at
// most one per address family. SYNs of a family without a listener are not queued.
type Listeners struct{ Plain, Paths []netip.AddrPort }

// rule is an nftables rule: matches, all of which must hold, and then actions.
type rule []statement

// statement is a part of a rule (nft(8), STATEMENTS): a match or an action. It leaves
// nothing in registers for the next one.
type statement struct {
	text  string     // in the syntax of nft(8)
	exprs []expr.Any // for the kernel
}

// chain is a chain with its rules. Every chain's policy is accept.
type chain struct {
	name     string
	hook     *nftables.ChainHook // nil: only other chains jump to it
	hookName string
	priority nftables.ChainPriority
	rules    []rule
}

// set is a named set of interface names.
type set struct {
	name     string
	elements []string
}

// table is a table with its sets and chains.
type table struct {
	family nftables.TableFamily
	word   string // for the family
	sets   []set
	chains []chain
}

func tableName(role string) string { return "synbond_" + role }

// tables returns the box's rules by table.
func (r Rules) tables() []table {
	all := []table{{nftables.TableFamilyINet, "inet", r.sets(), r.chains()}}
	for _, l := range r.Listeners.Plain {
		if !r.Reinjects {
			all = append(all, loopTable(l.Addr()))
		}
	}
	return all
}

// loopTable has the table that loops the released SYNs of an address family.
func loopTable(a netip.Addr) table {
	t, name := table{family: nftables.TableFamilyIPv6, word: "ip6"}, "loop6"
	if a.Is4() {
		t, name = table{family: nftables.TableFamilyIPv4, word: "ip"}, "loop4"
	}
	t.chains = []chain{{name, nftables.ChainHookForward, "forward", 1002, []rule{
		{markIs(ToPlain), setPriority(ToPlain)},
		{markIs(ToPaths), setPriority(ToPaths)},
		{isLooped(), loop(t.family), drop()},
	}}}
	return t
}

func (r Rules) sets() []set {
	return []set{{"plain", r.Plain}, {"paths", r.Paths}}
}

// side is the plain or the multipath side of a box.
type side struct {
	name, opposite string // sets of interfaces
	deliver        Mark   // of its held SYNs
	listeners      []netip.AddrPort
}

func (r Rules) sides() []side {
	return []side{{"plain", "paths", ToPlain, r.Listeners.Plain}, {"paths", "plain", ToPaths, r.Listeners.Paths}}
}

// chains returns the chains of the table inet in the order in which a packet meets them.
func (r Rules) chains() []chain {
	all := []chain{
		strays(), r.sockets(), marked("arrived", notrack(), accept()), deliver(), r.released(), marked("landed", jump("released")), land(),
		r.syns(), r.hold(), refused(), refuse(), r.emit(), class(),
	}
	return append(append(all, r.clamps()...), r.QUIC.chains()...)
}

// deliver delivers packets to the box's sockets. The router decides about SYNs, and those
// that a client sends from a port in TIME-WAIT are for the listener, not for that socket.
func deliver() chain {
	return chain{"deliver", nftables.ChainHookPrerouting, "prerouting", -290, []rule{
		{isLooped(), notrack(), accept()},
		{isSYN(), jump("arrived")},
		{isSYN(), accept()},
		{jump("sockets")},
	}}
}

// marked gives looped SYNs their mark back, which somebody has overwritten, and then has
// them treated as those that still have it.
func marked(name string, then ...statement) chain {
	c := chain{name: name}
	for _, m := range []Mark{ToPlain, ToPaths} {
		c.rules = append(c.rules, append(rule{isFromLoopback(), priorityIs(m), setMark(m)}, then...))
	}
	return c
}

// land hands looped SYNs to their listener, after all others have had their say: a packet
// with a socket would look odd to them. It does so, and delivers segments, also if somebody
// has overwritten their mark since deliver saw them.
func land() chain {
	return chain{"land", nftables.ChainHookPrerouting, "prerouting", 1000, []rule{
		{isLooped(), jump("released")},
		{markIs(Relay), accept()},
		{isSYN(), jump("landed")},
		{isSYN(), accept()},
		{jump("sockets")},
	}}
}

// sockets marks packets to the box's sockets.
func (r Rules) sockets() chain {
	c := chain{name: "sockets", rules: []rule{
		{iifname("plain"), socketMark(PlainSocket), setMark(Relay), notrack(), accept()},
	}}
	c.rules = append(c.rules, r.joins(!r.AcceptJoins)...)
	c.rules = append(c.rules, rule{iifname("paths"), socketMark(PathSocket), setMark(Relay), notrack(), accept()})
	for _, s := range r.sides() {
		c.rules = append(c.rules,
			rule{iifname(s.name), socketWildcard(), accept()},
			rule{iifname(s.name), socketTransparent(), fibNotLocal("daddr"), jump("strays")})
	}
	return c
}

// released hands released SYNs to the listener of their side.
func (r Rules) released() chain {
	c := chain{name: "released"}
	for _, s := range r.sides() {
		for _, l := range s.listeners {
			c.rules = append(c.rules, rule{nfproto(l.Addr()), isTCP(), markIs(s.deliver), tproxy(l), accept()})
		}
	}
	return c
}

// hold takes what the router has decided to forward from one side to the other: SYNs, and
// SYN+ACKs if they are wanted.
func (r Rules) hold() chain {
	c := chain{"hold", nftables.ChainHookForward, "forward", HoldPriority, []rule{{isSYN(), jump("syns")}}}
	if r.QueueSYNACKs {
		for _, s := range r.sides() {
			c.rules = append(c.rules, rule{isSYNACK(), iifname(s.name), oifname(s.opposite), queue(r.Queue, r.xtQueue)})
		}
	}
	return c
}

// syns queues SYNs, except those from hosts to a join address, and those that are going
// elsewhere than their client meant.
func (r Rules) syns() chain {
	c := chain{name: "syns"}
	if !r.AcceptJoins {
		c.rules = r.joins(false)
	}
	if r.Tracked {
		for _, s := range r.sides() {
			c.rules = append(c.rules, rule{iifname(s.name), oifname(s.opposite), isTranslated(), counter(), accept()})
		}
	}
	for _, s := range r.sides() {
		for _, l := range s.listeners {
			c.rules = append(c.rules,
				rule{nfproto(l.Addr()), iifname(s.name), oifname(s.opposite), queue(r.Queue, r.xtQueue)})
		}
	}
	return c
}

// joins accepts packets of further subflows, which have a join address as their source,
// or else as their destination. They carry an address of the machine itself, so they
// need no mark, and conntrack may track them, like those of an [OwnSocket].
func (r Rules) joins(source bool) (rules []rule) {
	for _, j := range r.Joins {
		rules = append(rules, rule{endpointIs(source, j), accept()})
	}
	return rules
}

// strays drops packets that belong to a socket of the other side. The two legs of a flow
// share one 5-tuple: a packet of one leg that a router sends back would match the other.
//
// The other packets here belong to handshakes and to connections in TIME-WAIT, which
// have no mark. A handshake may also have ended since an earlier rule looked, so that
// the packet's socket has a mark by now.
func strays() chain {
	return chain{name: "strays", rules: []rule{
		{iifname("plain"), socketMark(PathSocket), drop()},
		{iifname("paths"), socketMark(PlainSocket), drop()},
		{setMark(Relay), notrack(), accept()},
	}}
}

// refuse sends packets with a mark of refused SYNs to the chain refused.
func refuse() chain {
	return chain{"refuse", nftables.ChainHookForward, "forward", 1001, []rule{{isRefused(), jump("refused")}}}
}

// refused answers refused SYNs with a reset or an ICMP error.
func refused() chain {
	return chain{name: "refused", rules: []rule{
		{markIs(Refused), isTCP(), rejectReset()},
		{markIs(NoRoute), rejectICMP("no-route")},
		{markIs(HostUnreachable), rejectICMP("host-unreachable")},
		{markIs(Prohibited), rejectICMP("admin-prohibited")},
	}}
}

// emit exempts the packets of the box's sockets from conntrack: the legs of a flow have
// the same 5-tuple and different sequence numbers, so that conntrack would call the
// packets of one leg invalid.
//
// It also drops resets that are sent in another host's name but by no socket. The kernel
// sends such a reset when deliver finds a socket for a segment and TCP, a moment later,
// does not, because another CPU is replacing the handshake by the connection. The
// connection is intact, and its peer would retransmit, but for the reset.
func (r Rules) emit() chain {
	c := chain{"emit", nftables.ChainHookOutput, "output", -300, []rule{{sentBy(PlainSocket), notrack(), accept()}}}
	c.rules = append(c.rules, r.joins(r.AcceptJoins)...)
	c.rules = append(c.rules, rule{sentBy(PathSocket), notrack(), accept()})
	for _, s := range r.sides() {
		c.rules = append(c.rules, rule{oifname(s.name), isBareReset(), fibNotLocal("saddr"), drop()})
	}
	return c
}

// class sets the DSCP of IPv6 packets from MPTCP sockets, by the sockets' marks.
func class() chain {
	c := chain{"class", nftables.ChainHookOutput, "output", -150, []rule{{withoutDSCP(), accept()}}}
	for _, dscp := range codePoints {
		c.rules = append(c.rules, rule{hasDSCP(dscp), setDSCP6(dscp)})
	}
	return c
}

// String returns the rules in the syntax of nft(8), as input for `nft -f`.
func (r Rules) String() string {
	var b strings.Builder
	for i, t := range r.tables() {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "table %s %s {\n", t.word, tableName(r.Role))
		t.print(&b)
		b.WriteString("}\n")
	}
	return b.String()
}

func (t table) print(b *strings.Builder) {
	for _, s := range t.sets {
		fmt.Fprintf(b, "\tset %s {\n\t\ttype ifname\n\t\telements = { %s }\n\t}\n\n", s.name, quoted(s.elements))
	}
	for i, c := range t.chains {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(b, "\tchain %s {\n", c.name)
		if c.hook != nil {
			fmt.Fprintf(b, "\t\ttype filter hook %s priority %d; policy accept;\n", c.hookName, c.priority)
		}
		for _, rule := range c.rules {
			fmt.Fprintf(b, "\t\t%s\n", rule)
		}
		b.WriteString("\t}\n")
	}
}

// quoted returns names of interfaces in the syntax of nft(8).
func quoted(names []string) string { return `"` + strings.Join(names, `", "`) + `"` }

func (r rule) String() string {
	words := make([]string, len(r))
	for i, s := range r {
		words[i] = s.text
	}
	return strings.Join(words, " ")
}

func (r rule) exprs() []expr.Any {
	var all []expr.Any
	for _, s := range r {
		all = append(all, s.exprs...)
	}
	return all
}
