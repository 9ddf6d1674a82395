//go:build linux

package ruleset_test

import (
	"bytes"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/ruleset"
	"github.com/synbond/synbond/internal/tooltest"
)

var check = netlabtest.Check

func TestMain(m *testing.M) { netlabtest.Main(m) }

func newHost(t *testing.T) *netlab.Host {
	t.Helper()
	netlabtest.Require(t)
	h, err := netlab.NewHost("router")
	check(t, err)
	t.Cleanup(func() { check(t, h.Close()) })
	return h
}

// run runs a command on a host with that input.
func run(t *testing.T, h *netlab.Host, input string, name string, args ...string) {
	t.Helper()
	cmd := h.Command(name, args...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &out
	if err := h.Run(cmd); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out.String())
	}
}

// segment is one of a relayed connection.
func segment(from, to string) ruleset.Packet {
	return ruleset.Packet{
		In: "lan", Mark: 0x5b000001, State: ruleset.Untracked,
		Data: ruleset.Segment{
			Protocol: unix.IPPROTO_TCP, From: netip.MustParseAddrPort(from), To: netip.MustParseAddrPort(to), Flags: ruleset.ACK,
		}.Bytes(),
	}
}

var (
	segment4 = segment("192.0.2.2:40000", "203.0.113.2:443")
	segment6 = segment("[2001:db8:1::2]:40000", "[2001:db8:2::2]:443")
)

// outcome reads the rules of a host and evaluates one hook.
func outcome(t *testing.T, h *netlab.Host, hook ruleset.Hook, p ruleset.Packet) (out ruleset.Outcome) {
	t.Helper()
	check(t, h.Do(func() error {
		r, err := ruleset.Read()
		if err != nil {
			return err
		}
		r.Route = func(dst, _ netip.Addr) string {
			if dst == netip.MustParseAddr("192.0.2.2") || dst == netip.MustParseAddr("2001:db8:1::2") {
				return "lan"
			}
			return "wan"
		}
		out = r.Hook(hook, p, -1000, "synbond_")
		return nil
	}))
	return out
}

func TestRulesOfNFTAreEvaluatedAsTheKernelDoes(t *testing.T) {
	tooltest.Need(t, "the evaluation of rules", "nft")
	input := func(policy, rules string) string {
		return "chain input { type filter hook input priority 0; policy " + policy + "; " + rules + " }"
	}
	for _, c := range []struct {
		name, chains string
		drop4, drop6 bool
	}{
		{"an empty chain", input("accept", ""), false, false},
		{"policy drop", input("drop", ""), true, true},
		{"a rule for the mark", input("drop", "meta mark & 0xff000000 == 0x5b000000 accept;"), false, false},
		{"a rule for another mark", input("drop", "meta mark & 0xff000000 == 0x1b000000 accept;"), true, true},
		{"established only", input("drop", "ct state established,related accept; iifname lo accept;"), true, true},
		{"established by a map", input("drop", "ct state vmap { established : accept, related : accept };"), true, true},
		{"untracked by a map", input("drop", "ct state vmap { established : accept, untracked : accept };"), false, false},
		{"invalid", input("accept", "ct state invalid drop;"), false, false},
		{"a trusted interface", input("drop", `iifname "lan" accept;`), false, false},
		{"a trusted prefix of interfaces", input("drop", `iifname "la*" accept;`), false, false},
		{"another interface", input("drop", `iifname { "wan", "dmz" } accept;`), true, true},
		{"a set of interfaces", `set trusted { type ifname; elements = { "lan", "dmz" }; } ` + input("drop", `iifname @trusted accept;`), false, false},
		{"one family", input("drop", "meta nfproto ipv4 accept;"), false, true},
		{"prefixes", input("drop", "ip saddr 192.0.2.0/24 accept; ip6 saddr { 2001:db8:1::/48, 2001:db8:3::/48 } accept;"), false, false},
		{"other prefixes", input("drop", "ip saddr 192.0.3.0/24 accept; ip6 saddr { 2001:db8:0::/48, 2001:db8:2::/48 } accept;"), true, true},
		{"ports", input("accept", "tcp dport { 80, 443 } drop;"), true, true},
		{"a range of ports", input("drop", "tcp dport 400-500 accept;"), false, false},
		{"flags", input("accept", "tcp flags & (syn | ack) == ack drop;"), true, true},
		{"a concatenation", input("accept", "ip daddr . tcp dport { 203.0.113.2 . 443 } drop;"), true, false},
		{"a jump", "chain more { tcp dport 443 reject; } " + input("accept", "tcp dport 22 accept; jump more;"), true, true},
		{"a jump that returns", "chain more { return; tcp dport 443 drop; } " + input("accept", "jump more;"), false, false},
		{"goto ends with the policy", "chain more { counter; } " + input("drop", "goto more; accept;"), true, true},
		{"a map of chains", "chain lan { drop; } " + input("accept", `iifname vmap { "lan" : goto lan };`), true, true},
		{"a limit", input("drop", "limit rate 10/second accept;"), false, false}, // not for sure
		{"a limit that is no match", input("accept", "limit rate 10/second drop;"), false, false},
		{"an unknown match and then a drop", input("accept", "socket transparent 1 accept; drop;"), false, false},
		{"an uncertain jump", "chain more { accept; } " + input("drop", "meta cpu 1 jump more;"), false, false},
		{"an uncertain jump to a drop", "chain more { drop; } " + input("drop", "meta cpu 1 jump more;"), true, true},
		{"another hook", "chain out { type filter hook output priority 0; policy drop; }", false, false},
		{"the second chain", input("accept", "accept;") + " chain later { type filter hook input priority 10; policy drop; }", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			run(t, h, "table inet neighbour {\n"+strings.NewReplacer("{ type", "{\ntype", "; ", ";\n", "} chain", "}\nchain").Replace(c.chains)+"\n}\n", "nft", "-f", "-")
			for _, p := range []struct {
				packet ruleset.Packet
				want   bool
			}{{segment4, c.drop4}, {segment6, c.drop6}} {
				if out := outcome(t, h, ruleset.Input, p.packet); out.Dropped != p.want {
					t.Errorf("IP version %d: %+v, want a drop: %v", p.packet.Data[0]>>4, out, p.want)
				}
			}
		})
	}
}

// iptables runs a line of commands of iptables or ip6tables, of that variant: nft or legacy.
func iptables(t *testing.T, h *netlab.Host, variant, line string) {
	t.Helper()
	lock := "XTABLES_LOCKFILE=" + filepath.Join(t.TempDir(), "lock") + " "
	for _, c := range strings.Split(line, "; ") {
		run(t, h, "", "sh", "-c", lock+"iptables-"+variant+" "+c+" && "+lock+"ip6tables-"+variant+" "+c)
	}
}

func TestRulesOfIPTablesAreEvaluated(t *testing.T) {
	for _, variant := range []string{"nft", "legacy"} {
		for _, c := range []struct {
			name, rules string
			drop        bool
		}{
			{"policy", "-P INPUT DROP", true},
			{"state", "-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT; -P INPUT DROP", true},
			{"state, as of old", "-A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT; -P INPUT DROP", true},
			{"untracked, as of old", "-A INPUT -m state --state UNTRACKED -j ACCEPT; -P INPUT DROP", false},
			{"ports", "-A INPUT -p tcp -m multiport --dports 22,400:500 -j ACCEPT; -P INPUT DROP", false},
			{"other ports", "-A INPUT -p tcp -m multiport --dports 22,80,5000:6000 -j ACCEPT; -P INPUT DROP", true},
			{"ports of either end", "-A INPUT -p tcp -m multiport ! --ports 443 -j ACCEPT; -P INPUT DROP", true},
			{"untracked", "-A INPUT -m conntrack --ctstate UNTRACKED,ESTABLISHED -j ACCEPT; -P INPUT DROP", false},
			{"mark", "-A INPUT -m mark --mark 0x5b000000/0xff000000 -m comment --comment box -j ACCEPT; -A INPUT -j REJECT", false},
			{"port", "-A INPUT -p tcp --dport 443 -j DROP", true},
			{"another port", "-A INPUT -p tcp -m tcp ! --dport 400:500 -j DROP", false},
			{"another protocol", "-A INPUT -p udp -j ACCEPT; -A INPUT ! -p udp -j DROP", true},
			{"an interface", "-A INPUT -i la+ -j ACCEPT; -P INPUT DROP", false},
			{"not an interface", "-A INPUT ! -i lan -j ACCEPT; -P INPUT DROP", true},
			{"a chain", "-N more; -A more -i lan -j REJECT; -A INPUT -j more", true},
			{"a chain that returns", "-N more; -A more -i lan -j RETURN; -A more -j DROP; -A INPUT -j more", false},
			{"goto", "-N more; -A more -i wan -j DROP; -A INPUT -g more; -A INPUT -j DROP", false},
			{"return at the base", "-P INPUT DROP; -A INPUT -i lan -j RETURN; -A INPUT -j ACCEPT", true},
			{"reject", "-A INPUT -p tcp -j REJECT --reject-with tcp-reset", true},
			{"a limit", "-A INPUT -m limit --limit 1/s -j ACCEPT; -P INPUT DROP", false}, // not for sure
			{"an early table", "-t raw -A PREROUTING -j ACCEPT; -t mangle -A INPUT -i lan -j DROP", true},
		} {
			t.Run(variant+" "+c.name, func(t *testing.T) {
				tooltest.Need(t, "the evaluation of rules of iptables", "iptables-"+variant, "ip6tables-"+variant, "sh")
				h := newHost(t)
				iptables(t, h, variant, c.rules)
				for _, p := range []ruleset.Packet{segment4, segment6} {
					if out := outcome(t, h, ruleset.Input, p); out.Dropped != c.drop {
						t.Errorf("IP version %d: %+v, want a drop: %v", p.Data[0]>>4, out, c.drop)
					}
				}
			})
		}
	}
}

func TestLimitsOfRatesAreExceededOnRequest(t *testing.T) {
	tooltest.Need(t, "the evaluation of limits", "nft", "iptables-nft", "iptables-legacy", "sh")
	const always, over, never = "always", "over the limit", "never"
	chain := func(rules string) string {
		return "nft 'table inet f { chain i { type filter hook input priority 0; " + rules + "; }; }'"
	}
	for _, c := range []struct{ name, command, drops string }{
		{"within", chain("limit rate 25/second burst 50 packets accept; drop"), over},
		{"over", chain("limit rate over 25/second drop"), over},
		{"over, other packets", chain("tcp dport 80 limit rate over 25/second drop"), never},
		{"logged only", chain("limit rate 3/minute log; accept"), never},
		{"dropped before", chain("tcp dport 443 drop; limit rate 25/second accept"), always},
		{"a meter", "nft 'table inet f { set s { type ipv4_addr; size 9; flags dynamic; }; chain i { type filter hook input priority 0; add @s { ip saddr limit rate over 5/second } drop; }; }'", over},
		{"a set that only grows", "nft 'table inet f { set s { type ipv4_addr; size 9; flags dynamic; }; chain i { type filter hook input priority 0; add @s { ip saddr } drop; }; }'", always},
		{"iptables", "iptables-nft -N f && iptables-nft -A f -m limit --limit 25/s -j RETURN && iptables-nft -A f -j DROP && iptables-nft -A INPUT -p tcp --syn -j f", never},
		{"old iptables", "iptables-legacy -N f && iptables-legacy -A f -m limit --limit 25/s -j RETURN && iptables-legacy -A f -j DROP && iptables-legacy -A INPUT -p tcp -j f", over},
		{"hosts", "iptables-nft -A INPUT -m hashlimit --hashlimit-name a --hashlimit-mode srcip --hashlimit-above 9/s -j DROP", over},
		{"hosts within, old iptables", "iptables-legacy -A INPUT -m hashlimit --hashlimit-name b --hashlimit-mode srcip --hashlimit-upto 9/s -j ACCEPT && iptables-legacy -P INPUT DROP", over},
	} {
		h := newHost(t)
		run(t, h, "", "sh", "-c", "export XTABLES_LOCKFILE="+filepath.Join(t.TempDir(), "lock")+"; "+c.command)
		p := segment4
		if out := outcome(t, h, ruleset.Input, p); out.Dropped != (c.drops == always) || out.Limited != (c.drops == over || c.name == "logged only") {
			t.Errorf("%s: %+v, want a drop: %s", c.name, out, c.drops)
		}
		p.Exceeds = true
		if out := outcome(t, h, ruleset.Input, p); out.Dropped != (c.drops != never) {
			t.Errorf("%s, over the limit: %+v, want a drop: %s", c.name, out, c.drops)
		}
	}
}

func TestRulesThatCountAreFound(t *testing.T) {
	tooltest.Need(t, "rules that count", "nft", "iptables-nft", "iptables-legacy", "sh")
	chain := func(rules string) string {
		return "nft 'table inet f { chain i { type filter hook input priority 0; " + rules + "; }; }'"
	}
	for _, c := range []struct {
		name, command string
		counts        bool
	}{
		{"connections", chain("ct count over 10 reject"), true},
		{"connections by host", "nft 'table inet f { set s { type ipv4_addr; size 9; flags dynamic; }; chain i { type filter hook input priority 0; add @s { ip saddr ct count over 10 } drop; }; }'", true},
		{"connections to another port", chain("tcp dport 80 ct count over 10 reject"), false},
		{"a quota", chain("iifname lan quota over 500 mbytes drop"), true},
		{"a quota with a name", "nft 'table inet f { quota q { over 500 mbytes; }; chain i { type filter hook input priority 0; quota name \"q\" drop; }; }'", true},
		{"bytes", chain("ct bytes > 1000000 drop"), true},
		{"a rate", chain("limit rate over 10/second drop"), false},
		{"a counter", "nft 'table inet f { counter c { }; chain i { type filter hook input priority 0; counter name \"c\" accept; }; }'", false},
		{"accepted before", chain("iifname lan accept; ct count over 10 reject"), false},
		{"iptables", "iptables-nft -A INPUT -p tcp -m connlimit --connlimit-above 10 -j REJECT", true},
		{"old iptables", "iptables-legacy -A INPUT -p tcp -m connbytes --connbytes 9999: --connbytes-dir both --connbytes-mode bytes -j DROP", true},
		{"old iptables, another port", "iptables-legacy -A INPUT -p tcp --dport 80 -m connlimit --connlimit-above 10 -j DROP", false},
	} {
		h := newHost(t)
		run(t, h, "", "sh", "-c", "export XTABLES_LOCKFILE="+filepath.Join(t.TempDir(), "lock")+"; "+c.command)
		p := segment4
		p.State = ruleset.Established
		if out := outcome(t, h, ruleset.Input, p); (out.Counts != ruleset.By{}) != c.counts {
			t.Errorf("%s: %+v, want one that counts: %v", c.name, out, c.counts)
		}
	}
}

func TestAddressesOfOldRulesAreCompared(t *testing.T) {
	tooltest.Need(t, "the evaluation of rules of iptables", "iptables-legacy", "ip6tables-legacy", "sh")
	lock := "XTABLES_LOCKFILE=" + filepath.Join(t.TempDir(), "lock") + " "
	for _, c := range []struct {
		name, rule4, rule6 string
		drop               bool
	}{
		{"source", "-s 192.0.2.0/24", "-s 2001:db8:1::/48", true},
		{"another source", "-s 192.0.3.0/24", "-s 2001:db8:3::/48", false},
		{"not the destination", "! -d 203.0.113.2", "! -d 2001:db8:2::2", false},
	} {
		h := newHost(t)
		run(t, h, "", "sh", "-c", lock+"iptables-legacy -A INPUT -j DROP "+c.rule4+" && "+lock+"ip6tables-legacy -A INPUT -j DROP "+c.rule6)
		for _, p := range []ruleset.Packet{segment4, segment6} {
			out := outcome(t, h, ruleset.Input, p)
			if out.Dropped != c.drop {
				t.Errorf("%s, IP version %d: %+v, want a drop: %v", c.name, p.Data[0]>>4, out, c.drop)
			}
			if c.drop && !strings.Contains(out.By.String(), "filter INPUT (iptables-legacy)") {
				t.Errorf("%s: the cause is %s", c.name, out.By)
			}
		}
	}
}

func TestTheCauseIsNamed(t *testing.T) {
	tooltest.Need(t, "the evaluation of rules", "nft")
	h := newHost(t)
	run(t, h, `table inet fw {
		chain input { type filter hook input priority 0; policy drop; iifname "wan" accept; tcp dport 443 jump web; }
		chain web { ip version 4 drop comment "no web"; }
	}`, "nft", "-f", "-")
	for want, p := range map[string]ruleset.Packet{
		`(handle `: segment4, "the policy of the chain inet fw input": segment6,
	} {
		if out := outcome(t, h, ruleset.Input, p); !strings.Contains(out.By.String(), want) {
			t.Errorf("%s, want %q", out.By, want)
		}
	}
	if by := outcome(t, h, ruleset.Input, segment4).By.String(); !strings.Contains(by, "inet fw web") || !strings.Contains(by, `"no web"`) {
		t.Errorf("%s names neither chain nor comment", by)
	}
}

func TestTranslationsOfSourcesAreFound(t *testing.T) {
	tooltest.Need(t, "the evaluation of rules", "nft", "iptables-nft", "iptables-legacy", "sh")
	const no, may, yes = "no", "maybe", "yes"
	for _, c := range []struct{ name, command, want string }{
		{"masquerade", `nft 'table ip n { chain p { type nat hook postrouting priority 100; oifname "wan" masquerade; }; }'`, yes},
		{"snat", `nft 'table ip n { chain p { type nat hook postrouting priority 100; ip saddr 192.0.2.0/24 snat to 203.0.113.9; }; }'`, yes},
		{"another interface", `nft 'table ip n { chain p { type nat hook postrouting priority 100; oifname "dmz" masquerade; }; }'`, no},
		{"iptables", "iptables-nft -t nat -A POSTROUTING -o wan -j MASQUERADE", yes},
		{"iptables, snat", "iptables-nft -t nat -A POSTROUTING -o wan -j SNAT --to-source 203.0.113.9", yes},
		{"old iptables", "iptables-legacy -t nat -A POSTROUTING -o wan -s 192.0.2.0/24 -j MASQUERADE", yes},
		{"old iptables, another interface", "iptables-legacy -t nat -A POSTROUTING -o dmz -j MASQUERADE", no},
		{"IPv6 only", `nft 'table ip6 n { chain p { type nat hook postrouting priority 100; masquerade; }; }'`, no},
		{"none", "true", no},
		{"a match that is not evaluated", `nft 'table ip n { chain p { type nat hook postrouting priority 100; oifname "wan" rt ipsec missing masquerade; }; }'`, may},
		{"in a chain to which such a match jumps", `nft 'table ip n { chain m { masquerade; }; chain p { type nat hook postrouting priority 100; meta cpu 1 jump m; }; }'`, may},
		{"after a rule that may accept", `nft 'table ip n { chain p { type nat hook postrouting priority 100; meta cpu 1 accept; masquerade; }; }'`, may},
		{"such a match, another interface", `nft 'table ip n { chain p { type nat hook postrouting priority 100; oifname "dmz" meta cpu 1 masquerade; }; }'`, no},
		{"iptables, a match that is not evaluated", "iptables-nft -t nat -A POSTROUTING -o wan -m policy --dir out --pol none -j MASQUERADE", may},
		{"old iptables, a match that is not evaluated", "iptables-legacy -t nat -A POSTROUTING -o wan -m policy --dir out --pol none -j MASQUERADE", may},
	} {
		h := newHost(t)
		run(t, h, "", "sh", "-c", "export XTABLES_LOCKFILE="+filepath.Join(t.TempDir(), "lock")+"; "+c.command)
		p := segment4
		p.In, p.Out, p.State = "", "wan", ruleset.New
		if out := outcome(t, h, ruleset.Postrouting, p); out.Translated != (c.want == yes) || out.MayTranslate != (c.want == may) || out.Dropped {
			t.Errorf("%s: %+v, want a translation: %s", c.name, out, c.want)
		}
	}
}

func TestMarksThatAreOverwrittenAreFound(t *testing.T) {
	tooltest.Need(t, "the evaluation of rules", "nft")
	for _, c := range []struct {
		name, rule string
		want       uint32
	}{
		{"overwritten", "meta mark set 0x100", 0x100},
		{"a bit is added", "meta mark set meta mark | 0x100", 0x5b000101},
		{"others' bits are cleared", "meta mark set meta mark & 0xff0000ff", 0x5b000001},
		{"not for sure", "meta cpu 1 meta mark set 0x100", 0x5b000001},
		{"from the connection", "meta mark set ct mark", 0x5b000001},
	} {
		h := newHost(t)
		run(t, h, "table inet m {\nchain p {\ntype filter hook prerouting priority -150;\n"+c.rule+"\n}\n}\n", "nft", "-f", "-")
		if out := outcome(t, h, ruleset.Prerouting, segment4); out.Mark != c.want || out.Marked != (c.want != segment4.Mark) {
			t.Errorf("%s: %+v, want mark %#x", c.name, out, c.want)
		}
	}
}

func TestReversePathFiltersOfRulesAreEvaluated(t *testing.T) {
	tooltest.Need(t, "the evaluation of rules", "nft")
	const filter = "table inet f {\nchain p {\ntype filter hook prerouting priority -300;\nfib saddr . iif oif missing drop\n}\n}\n"
	h := newHost(t)
	run(t, h, filter, "nft", "-f", "-")
	for _, c := range []struct {
		in   string
		want bool
	}{{"lan", false}, {"wan", true}, {"lo", false}} {
		p := segment4
		p.In = c.in
		if out := outcome(t, h, ruleset.Prerouting, p); out.Dropped != c.want {
			t.Errorf("by %s: %+v, want a drop: %v", c.in, out, c.want)
		}
	}
}
