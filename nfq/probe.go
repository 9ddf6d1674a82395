//go:build linux

package nfq

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Feature is a part of nftables that the rules need.
type Feature struct {
	Name   string
	Config string // the kernel options that provide it
	// Optional: a box does without it, at some cost.
	Optional bool
	anyOf    []rule // the kernel must accept one of them
	hook     *nftables.ChainHook
	family   nftables.TableFamily
}

// Features returns the features that [Rules] need.
func Features() []Feature {
	local := netip.AddrPortFrom(netip.IPv6Loopback(), 1)
	const inet = nftables.TableFamilyINet
	pre, fwd := nftables.ChainHookPrerouting, nftables.ChainHookForward
	return []Feature{
		{"nftables", "CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET", false, []rule{{isSYN()}}, pre, inet},
		{
			"NFQUEUE from nftables", "CONFIG_NFT_QUEUE, or CONFIG_NFT_COMPAT and CONFIG_NETFILTER_XT_TARGET_NFQUEUE",
			false, []rule{{queue(0, false)}, {queue(0, true)}}, fwd, inet,
		},
		{"routing lookups in nftables", "CONFIG_NFT_FIB_INET", false, []rule{{fibNotLocal("daddr")}}, pre, inet},
		{"transparent proxying", "CONFIG_NFT_TPROXY", false, []rule{{nfproto(local.Addr()), isTCP(), tproxy(local)}}, pre, inet},
		{"socket matching", "CONFIG_NFT_SOCKET", false, []rule{{socketTransparent()}}, pre, inet},
		{"notrack", "CONFIG_NFT_CT", false, []rule{{notrack()}}, pre, inet},
		{"reject", "CONFIG_NFT_REJECT_INET", false, []rule{{isTCP(), rejectReset()}}, fwd, inet},
		loops(nftables.TableFamilyIPv6, "SYNs looped by the kernel, IPv6", "CONFIG_NFT_DUP_IPV6"),
		loops(nftables.TableFamilyIPv4, "SYNs looped by the kernel, IPv4", "CONFIG_NFT_DUP_IPV4"),
	}
}

func loops(family nftables.TableFamily, name, config string) Feature {
	return Feature{name, config, true, []rule{{loop(family)}}, nftables.ChainHookForward, family}
}

// Loops reports whether the kernel can loop released SYNs over lo. It tries with tables
// that it removes. Without that, [QueueConfig.Reinject] and [Rules.Reinjects] do so.
// Families are unix.AF_INET, unix.AF_INET6.
func Loops(families ...int) bool {
	return !slices.ContainsFunc(families, func(family int) bool {
		of := nftables.TableFamilyIPv6
		if family == unix.AF_INET {
			of = nftables.TableFamilyIPv4
		}
		return loops(of, "", "").Probe() != nil
	})
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
	table := c.AddTable(&nftables.Table{Family: f.family, Name: tableName("probe")})
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

// Advice is a rule by which a firewall accepts all that reaches a box, in the syntax of
// nft(8).
var Advice = fmt.Sprintf("meta mark & %#x == %#x accept", uint32(ownerMask), uint32(Relay&ownerMask))

// AdviceXT is the mark of [Advice] in the syntax of the match mark of iptables(8).
var AdviceXT = fmt.Sprintf("%#x/%#x", uint32(Relay&ownerMask), uint32(ownerMask))
