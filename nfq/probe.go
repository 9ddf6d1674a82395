package nfq

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Feature is a part of nftables that the rules need.
type Feature struct {
	Name   string
	Config string // the kernel options that provide it
	anyOf  []rule // the kernel must accept one of them
	hook   *nftables.ChainHook
}

// Features returns the features that [Rules] need.
func Features() []Feature {
	loopback := netip.AddrPortFrom(netip.IPv6Loopback(), 1)
	pre := nftables.ChainHookPrerouting
	return []Feature{
		{"nftables", "CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET", []rule{{isSYN()}}, pre},
		{
			"NFQUEUE from nftables", "CONFIG_NFT_QUEUE, or CONFIG_NFT_COMPAT and CONFIG_NETFILTER_XT_TARGET_NFQUEUE",
			[]rule{{queue(0, false)}, {queue(0, true)}}, pre,
		},
		{"routing lookups in nftables", "CONFIG_NFT_FIB_INET", []rule{{fibNotLocal("daddr")}}, pre},
		{"transparent proxying", "CONFIG_NFT_TPROXY", []rule{{nfproto(loopback.Addr()), isTCP(), tproxy(loopback)}}, pre},
		{"socket matching", "CONFIG_NFT_SOCKET", []rule{{socketTransparent()}}, pre},
		{"notrack", "CONFIG_NFT_CT", []rule{{notrack()}}, pre},
		{"reject before routing", "CONFIG_NFT_REJECT_INET (since Linux 5.9)", []rule{{isTCP(), rejectReset()}}, pre},
	}
}

// Probe reports whether the kernel has the feature: it installs a rule in a table of its
// own and removes it. To be called in a network namespace of its own.
func (f Feature) Probe() error {
	var errs []error
	for _, r := range f.anyOf {
		err := f.try(r)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (f Feature) try(r rule) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: tableName("probe")})
	priority := nftables.ChainPriority(-300)
	chain := c.AddChain(&nftables.Chain{
		Name: "probe", Table: table, Type: nftables.ChainTypeFilter, Hooknum: f.hook, Priority: &priority,
	})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: r.exprs()})
	if err := c.Flush(); err != nil {
		return err
	}
	c.DelTable(table)
	return c.Flush()
}

// DefaultDrops lists the nftables chains that drop packets to this machine by default and
// have no rule for the mark [Relay]. Relayed packets pass the input hook, untracked and
// with that mark.
func DefaultDrops() ([]string, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	chains, err := c.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	var out []string
	for _, ch := range chains {
		isInput := ch.Hooknum != nil && *ch.Hooknum == unix.NF_INET_LOCAL_IN && ch.Type == nftables.ChainTypeFilter
		if isInput && ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop && !accepts(c, ch) {
			out = append(out, ch.Table.Name+" "+ch.Name)
		}
	}
	return out, nil
}

// accepts reports whether a rule of the chain compares with the mark [Relay].
func accepts(c *nftables.Conn, ch *nftables.Chain) bool {
	rules, err := c.GetRules(ch.Table, ch)
	if err != nil {
		return false
	}
	for _, r := range rules {
		for _, e := range r.Exprs {
			if cmp, ok := e.(*expr.Cmp); ok && string(cmp.Data) == string(markIs(Relay).exprs[1].(*expr.Cmp).Data) {
				return true
			}
		}
	}
	return false
}
