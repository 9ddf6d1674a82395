//go:build linux

package nfq_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/tooltest"
	"github.com/synbond/synbond/nfq"
)

var update = flag.Bool("update", false, "write the golden files again")

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func TestStringMatchesGoldenFiles(t *testing.T) {
	for name, r := range map[string]nfq.Rules{
		"both families": rules,
		"QUIC": {
			Role: "cpe", Plain: []string{"lan"}, Paths: []string{"dsl", "lte"}, Queue: 1,
			QUIC: nfq.QUIC{Paths: []string{"dsl"}, Rules: []nfq.QUICRule{
				{From: prefixes("2001:db8:9::/48", "192.0.2.0/24"), To: prefixes("203.0.113.1/32"), Then: nfq.PassQUIC},
				{From: prefixes("192.0.2.0/24"), Then: nfq.ByPath}, {Then: nfq.RejectQUIC},
			}},
		},
		"IPv6 only": {
			Role: "hag", Plain: []string{"wan", "wan2"}, Paths: []string{"dsl", "lte"}, Queue: 65535,
			Joins: []netip.AddrPort{netip.MustParseAddrPort("[2001:db8:f::1]:9000")}, AcceptJoins: true,
			Listeners: nfq.Listeners{
				Plain: []netip.AddrPort{netip.MustParseAddrPort("[::1]:1")},
				Paths: []netip.AddrPort{netip.MustParseAddrPort("[::1]:2")},
			},
		},
	} {
		path := filepath.Join("testdata", strings.ReplaceAll(name, " ", "-")+".nft")
		got := r.String()
		if *update {
			check(t, os.WriteFile(path, []byte(got), 0o644))
		}
		want, err := os.ReadFile(path)
		check(t, err)
		if got != string(want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
}

// tables returns the names of a host's nftables tables.
func tables(t *testing.T, h *netlab.Host) (names []string) {
	t.Helper()
	check(t, h.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		all, err := c.ListTables()
		for _, table := range all {
			names = append(names, table.Name)
		}
		return err
	}))
	return names
}

// counts returns the number of rules in each chain of a host.
func counts(t *testing.T, h *netlab.Host) map[string]int {
	t.Helper()
	out := make(map[string]int)
	check(t, h.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		chains, err := c.ListChains()
		for _, chain := range chains {
			rules, err := c.GetRules(chain.Table, chain)
			if err != nil {
				return err
			}
			out[chain.Table.Name+" "+chain.Name] = len(rules)
		}
		return err
	}))
	return out
}

func TestInstallReplacesEarlierRules(t *testing.T) {
	h := newHost(t)
	want := map[string]int{
		"synbond_test hold": 1, "synbond_test syns": 6,
		"synbond_test deliver": 4, "synbond_test arrived": 2, "synbond_test land": 5, "synbond_test landed": 2, "synbond_test sockets": 8,
		"synbond_test released": 4, "synbond_test strays": 3,
		"synbond_test refuse": 1, "synbond_test refused": 4,
		"synbond_test emit": 6, "synbond_test class": 24, "synbond_test clamp_in": 2, "synbond_test clamp_out": 2, "synbond_test loop6": 3, "synbond_test loop4": 3,
	}
	for range 2 {
		check(t, h.Do(rules.Install))
		if got := counts(t, h); len(got) != len(want) {
			t.Errorf("chains %v, want %v", got, want)
		} else {
			for chain, n := range want {
				if got[chain] != n {
					t.Errorf("%s has %d rules, want %d", chain, got[chain], n)
				}
			}
		}
	}
	less := rules
	less.Listeners.Plain, less.Listeners.Paths = rules.Listeners.Plain[:1], rules.Listeners.Paths[:1]
	check(t, h.Do(less.Install))
	if got := counts(t, h)["synbond_test syns"]; got != 4 {
		t.Errorf("syns has %d rules after a smaller install, want 4", got)
	}
}

func TestRemoveKeepsTheRulesOfOtherRoles(t *testing.T) {
	h := newHost(t)
	remove := func(role string) { check(t, h.Do(func() error { return nfq.Remove(role) })) }
	remove("test") // nothing is installed yet
	other := rules
	other.Role = "other"
	check(t, h.Do(rules.Install))
	check(t, h.Do(other.Install))
	remove("test")
	remove("test")
	if got := slices.Compact(tables(t, h)); len(got) != 1 || got[0] != "synbond_other" {
		t.Errorf("tables %v are left, want synbond_other", got)
	}
	remove("other")
	if got := tables(t, h); len(got) != 0 {
		t.Errorf("tables %v are left", got)
	}
}

func TestKernelReturnsTheExpressionsThatInstallSends(t *testing.T) {
	h := newHost(t)
	check(t, h.Do(rules.Install))
	want := rules.Expressions()
	for chain, got := range expressions(t, h) {
		if len(got) != len(want[chain]) {
			t.Errorf("chain %s has %d rules, want %d", chain, len(got), len(want[chain]))
			continue
		}
		for i := range got {
			if got, want := readable(got[i]), readable(want[chain][i]); !reflect.DeepEqual(got, want) {
				t.Errorf("chain %s, rule %d: %s, want %s", chain, i+1, describe(got), describe(want))
			}
		}
		delete(want, chain)
	}
	if len(want) != 0 {
		t.Errorf("the kernel lacks chains: %v", want)
	}
}

// expressions returns the rules of each chain of a host.
func expressions(t *testing.T, h *netlab.Host) map[string][][]expr.Any {
	t.Helper()
	all := make(map[string][][]expr.Any)
	check(t, h.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		chains, err := c.ListChains()
		if err != nil {
			return err
		}
		for _, chain := range chains {
			rules, err := c.GetRules(chain.Table, chain)
			if err != nil {
				return err
			}
			for _, r := range rules {
				all[chain.Name] = append(all[chain.Name], r.Exprs)
			}
		}
		return nil
	}))
	return all
}

// readable leaves out the expressions that the nftables library sends but does not read,
// and gives both forms of NFQUEUE, native and xt, the native form.
func readable(exprs []expr.Any) (out []expr.Any) {
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.Socket, *expr.TProxy, *expr.Dup:
			continue
		case *expr.Target: // struct xt_NFQ_info_v3
			info := *e.Info.(*xt.Unknown)
			q := &expr.Queue{Num: binary.NativeEndian.Uint16(info)}
			if binary.NativeEndian.Uint16(info[4:])&1 != 0 {
				q.Flag = expr.QueueFlagBypass
			}
			out = append(out, q)
		case *expr.Queue: // the kernel counts one queue if none is given
			out = append(out, &expr.Queue{Num: e.Num, Flag: e.Flag})
		default:
			out = append(out, e)
		}
	}
	return out
}

func describe(exprs []expr.Any) string {
	words := make([]string, len(exprs))
	for i, e := range exprs {
		words[i] = fmt.Sprintf("%T%+v", e, e)
	}
	return strings.Join(words, " ")
}

func TestNftListsTheRulesThatStringPrints(t *testing.T) {
	tooltest.Need(t, "that nft lists the rules as String prints them", "nft")
	h := newHost(t)
	check(t, h.Do(rules.Install))
	// nft lists the xt target in its own words where iptables has installed a translator
	// for it. The variable hides one.
	for _, env := range []string{"XTABLES_LIBDIR=/nonexistent", ""} {
		cmd := h.Command("nft", "-n", "list", "ruleset")
		if env != "" {
			cmd.Env = append(os.Environ(), env)
		}
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := h.Run(cmd); err != nil {
			t.Fatalf("%s nft: %v: %s", env, err, errs.String())
		}
		got, want := normal(out.String()), normal(rules.String())
		for i := range max(len(got), len(want)) {
			switch {
			case i >= len(got) || i >= len(want):
				t.Fatalf("%s nft: %d lines, want %d:\n%s", env, len(got), len(want), out.String())
			case got[i] != want[i]:
				t.Errorf("%s nft: line %d: %q, want %q", env, i+1, got[i], want[i])
			}
		}
	}
}

func TestNftAcceptsTheOutputOfString(t *testing.T) {
	tooltest.Need(t, "that nft takes the rules that String prints", "nft")
	h := newHost(t)
	text := regexp.MustCompile(`queue flags bypass to \d+`).ReplaceAllString(rules.String(), "accept") // not every kernel has it
	cmd := h.Command("nft", "-c", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.Run(cmd); err != nil {
		t.Errorf("%v: %s", err, out.String())
	}
}

// normal brings what nft lists and what String prints to one form: nft leaves out what
// it can infer, and writes numbers. The NFQUEUE at the end of a rule is left out: nft
// has several words for it, or none; another test reads it from the kernel.
func normal(text string) (lines []string) {
	for _, r := range []struct{ from, to string }{
		{`meta l4proto (tcp|6) `, ""},
		{`(# ?)?(xt target "NFQUEUE"|xt_NFQUEUE|NFQUEUE|queue (num|to|flags|from) ).*$`, ""},
		{`tcp flags & \([^)]*\) == (\S+)|tcp flags (\S+) / \S+`, "flags $1$2"},
		{`flags 0x2`, "flags syn"},
		{`tcp option mptcp 1`, "tcp option mptcp exists"},
		{`flags 0x4`, "flags rst"},
		{`fib daddr oifname (@|\{ ")(\w+)(" \})?`, "fib oifname"},
		{`fib (s|d)addr type != \S+`, "fib $1 not local"},
		{`priority [^;]*;`, "priority;"},
		{`meta nfproto (ipv4|2) `, "IPv4 "},
		{`meta nfproto (ipv6|10) `, "IPv6 "},
		{`icmpx (type )?no-route`, "icmpx 0"},
		{`icmpx (type )?host-unreachable`, "icmpx 2"},
		{`icmpx (type )?admin-prohibited`, "icmpx 3"},
	} {
		text = regexp.MustCompile(`(?m)`+r.from).ReplaceAllString(text, r.to)
	}
	for line := range strings.Lines(text) {
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// routing counts the policy rules and local routes for marked packets.
func routing(t *testing.T, h *netlab.Host, family int) (rules, routes int) {
	t.Helper()
	check(t, h.Netlink(func(nl *netlink.Handle) error {
		all, err := nl.RuleList(family)
		if err != nil {
			return err
		}
		for _, r := range all {
			if r.Table == 91 {
				rules++
			}
		}
		local, err := nl.RouteListFiltered(family, &netlink.Route{Table: 91}, netlink.RT_FILTER_TABLE)
		routes = len(local)
		return err
	}))
	return rules, routes
}

func TestRepeatedInstallRoutesAddsOneRoute(t *testing.T) {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		h := newHost(t)
		r := routes(family)
		install, remove := r.Install, r.Remove
		for _, step := range []struct {
			what string
			do   func() error
			want int
		}{
			{"removed before installation", remove, 0},
			{"installed", install, 1},
			{"installed again", install, 1},
			{"removed", remove, 0},
			{"removed again", remove, 0},
			{"installed after that", install, 1},
		} {
			check(t, h.Do(step.do))
			if rules, routes := routing(t, h, family); rules != 3*step.want || routes != step.want {
				t.Errorf("family %d, %s: %d rules and %d routes, want %d times 3 and 1", family, step.what, rules, routes, step.want)
			}
		}
	}
}
