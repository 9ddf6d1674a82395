//go:build linux

package nfq_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/tooltest"
	"github.com/synbond/synbond/nfq"
)

// shell runs a line of shell on a host.
func shell(t *testing.T, h *netlab.Host, line string) {
	t.Helper()
	cmd := h.Command("sh", "-c", line)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.Run(cmd); err != nil {
		t.Fatalf("%s: %v: %s", line, err, out.String())
	}
}

// listed returns the lines of the box's tables of a host in order: chains may be listed in any.
func listed(t *testing.T, h *netlab.Host) string {
	t.Helper()
	var out bytes.Buffer
	for _, family := range []string{"inet", "ip", "ip6"} {
		cmd := h.Command("nft", "list", "table", family, "synbond_test")
		cmd.Stdout = &out
		check(t, h.Run(cmd))
	}
	return strings.Join(slices.Sorted(strings.Lines(out.String())), "")
}

// keep installs the rules on a host.
func keep(t *testing.T, h *netlab.Host) (k *nfq.Kept) {
	t.Helper()
	check(t, h.Do(func() (err error) {
		if err := rules.Install(); err != nil {
			return err
		}
		k, err = rules.Keep()
		return err
	}))
	return k
}

func TestKeptFindsEveryChange(t *testing.T) {
	tooltest.Need(t, "changes of the rules by others", "nft", "sh")
	h := newHost(t)
	const table = "inet synbond_test"
	was := "" // the tables, as installed
	for _, c := range []struct{ name, line, want string }{
		{"the ruleset", "nft flush ruleset", "table inet synbond_test; table ip synbond_test; table ip6 synbond_test: gone"},
		{"a table", "nft delete table " + table, "table inet synbond_test: gone"},
		{"a table of one family", "nft delete table ip6 synbond_test", "table ip6 synbond_test: gone"},
		{"all rules of a table", "nft flush table ip synbond_test", "table ip synbond_test, chain loop4: changed"},
		{"a dormant table", "nft 'table inet synbond_test { flags dormant; }'", "table inet synbond_test: changed"},
		{"a chain", "nft flush chain inet synbond_test emit; nft delete chain inet synbond_test emit", "table inet synbond_test, chain emit: gone"},
		{"the rules of a chain", "nft flush chain inet synbond_test hold", "table inet synbond_test, chain hold: changed"},
		{"a policy", "nft 'chain inet synbond_test deliver { policy drop; }'", "table inet synbond_test, chain deliver: changed"},
		{"one rule", "nft delete rule inet synbond_test sockets handle $(nft -a list chain inet synbond_test sockets | sed -n 's/.*handle //p' | tail -1)", "table inet synbond_test, chain sockets: changed"},
		{"a rule by another", "nft replace rule inet synbond_test hold handle $(nft -a list chain inet synbond_test hold | sed -n 's/.*handle //p' | tail -1) accept", "table inet synbond_test, chain hold: changed"},
		{"a rule more", "nft insert rule inet synbond_test sockets drop", "table inet synbond_test, chain sockets: changed"},
		{"a chain more", "nft add chain inet synbond_test further", ""}, // it has no effect
		{"an element of a set", "nft delete element inet synbond_test paths '{ dsl }'", "table inet synbond_test, set paths: changed"},
		{"an element more", "nft add element inet synbond_test plain '{ wlan }'", "table inet synbond_test, set plain: changed"},
		{"a table of another program", "nft add table inet other; nft delete table inet other", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := keep(t, h)
			if was == "" {
				was = listed(t, h)
			}
			shell(t, h, c.line)
			check(t, h.Do(func() error {
				got, moved, err := k.Changes()
				if got != c.want || !moved || err != nil {
					t.Errorf("changes %q, moved %v, %v, want %q", got, moved, err, c.want)
				}
				return rules.Install()
			}))
			if is := listed(t, h); is != was {
				t.Errorf("the rules when installed again:\n%s\nwant\n%s", is, was)
			}
		})
	}
	k := keep(t, h)
	check(t, h.Do(func() error {
		for _, first := range []bool{true, false} {
			if got, moved, err := k.Changes(); got != "" || moved != first || err != nil {
				t.Errorf("nothing has changed: %q, moved %v, %v", got, moved, err)
			}
		}
		return nil
	}))
}

func TestWatchNamesTheProgramThatChangesTheTables(t *testing.T) {
	tooltest.Need(t, "changes of the rules by others", "nft", "sh")
	h := newHost(t)
	keep(t, h)
	by := make(chan string, 16)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := netlabtest.Inside(t, h, func() error {
		return nfq.Watch(ctx, "test", func(who string, matters bool) {
			if matters {
				by <- who
			}
		})
	})
	next := func() string {
		t.Helper()
		select {
		case who := <-by:
			return who
		case <-time.After(20 * time.Second):
			t.Fatal("no event")
			panic("unreachable")
		}
	}
	if who := next(); who != "" {
		t.Errorf("at the start: %q", who)
	}
	for _, line := range []string{
		"nft add table inet other; nft add set inet other s '{ type ifname; }'; nft add element inet other s '{ x }'; nft flush chain inet synbond_test hold",
		"nft 'table inet other { chain c { type nat hook prerouting priority dstnat; }; }'", // a translation begins
		"nft delete table inet other", // one may have ended
	} {
		shell(t, h, line)
		if who := next(); who != "nft" {
			t.Errorf("%s: by %q, want nft", line, who)
		}
		if len(by) > 0 {
			t.Errorf("%s: a second event", line)
		}
	}
	cancel()
	check(t, <-done)
}

func TestMissingRoutesAreNamedAndMended(t *testing.T) {
	tooltest.Need(t, "changes of policy routing by others", "ip", "sh")
	h := newHost(t)
	shell(t, h, "ip link set lo up")
	for _, f := range []struct {
		name, flag string
		number     int
	}{{"IPv6", "-6", unix.AF_INET6}, {"IPv4", "-4", unix.AF_INET}} {
		for _, c := range []struct{ name, line, want string }{
			{"nothing", "true", ""},
			{"a rule", "ip FAMILY rule del pref 1", "1 of 3 policy rules are gone"},
			{"all rules", "ip FAMILY rule flush", "3 of 3 policy rules are gone"},
			{"the route", "ip FAMILY route flush table 91", "the route of table 91 is gone"},
			{"both", "ip FAMILY rule flush; ip FAMILY route flush table 91", "3 of 3 policy rules are gone, the route of table 91 is gone"},
			{"another route", "ip FAMILY route replace unreachable default table 91; ip FAMILY route del local default dev lo table 91 2>/dev/null; true", "the route of table 91 is gone"},
		} {
			t.Run(f.name+" "+c.name, func(t *testing.T) {
				r := routes(f.number)
				check(t, h.Do(r.Install))
				shell(t, h, strings.ReplaceAll(c.line, "FAMILY", f.flag))
				for _, want := range []string{c.want, ""} {
					check(t, h.Do(func() error {
						got, err := r.Missing()
						if got != want {
							t.Errorf("missing: %q, %v, want %q", got, err, want)
						}
						if err != nil {
							return err
						}
						return r.Mend()
					}))
				}
				check(t, h.Do(r.Remove))
			})
		}
	}
}
