//go:build linux

package nfq

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Translates reports whether something on this machine may translate destinations: an
// nftables chain of type nat before routing, or the table nat of the older iptables. Only
// then may a rule ask what has been translated, as it switches connection tracking on.
func Translates() (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nftables: %w", err)
	}
	chains, err := c.ListChains()
	if err != nil {
		return false, fmt.Errorf("list nftables chains: %w", err)
	}
	if slices.ContainsFunc(chains, func(ch *nftables.Chain) bool {
		return ch.Type == nftables.ChainTypeNAT && ch.Hooknum != nil && *ch.Hooknum == unix.NF_INET_PRE_ROUTING
	}) {
		return true, nil
	}
	return TranslatesByLegacy()
}

// TranslatesByLegacy reports whether there is the table nat of the older iptables. No event
// tells of it, and reading that costs little.
func TranslatesByLegacy() (bool, error) {
	for _, file := range []string{"/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"} {
		names, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
		if slices.Contains(strings.Fields(string(names)), "nat") {
			return true, nil
		}
	}
	return false, nil
}

// Translated returns the number of SYNs that the installed rules of a role have let pass
// because their destination had been translated.
func Translated(role string) (n uint64, err error) {
	c, tables, err := find(role)
	if err != nil {
		return 0, err
	}
	for _, t := range tables {
		if t.Family != nftables.TableFamilyINet {
			continue
		}
		rules, err := c.GetRules(t, &nftables.Chain{Name: "syns", Table: t})
		if err != nil {
			return 0, fmt.Errorf("read counters of nftables: %w", err)
		}
		for _, r := range rules {
			for _, e := range r.Exprs {
				if counter, ok := e.(*expr.Counter); ok {
					n += counter.Packets
				}
			}
		}
	}
	return n, nil
}
