//go:build linux

package netlab

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// FirewallTable is the name of the nftables table of [Host.AddFirewall].
const FirewallTable = "firewall"

// firewall is a stateful packet filter as routers have it: in every hook it
// drops packets that connection tracking takes for invalid. It counts the TCP
// segments among them only: nobody waits for a late ICMP error about a connection
// that has failed already.
var firewall = &nftables.Table{Name: FirewallTable, Family: nftables.TableFamilyINet}

var firewallHooks = map[string]*nftables.ChainHook{
	"input": nftables.ChainHookInput, "forward": nftables.ChainHookForward, "output": nftables.ChainHookOutput,
}

// invalid matches packets whose connection tracking state is invalid.
var invalid = []expr.Any{
	&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
	&expr.Bitwise{
		SourceRegister: 1, DestRegister: 1, Len: 4,
		Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitINVALID), Xor: make([]byte, 4),
	},
	&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
}

// AddFirewall makes the host drop packets whose `ct state` is invalid.
func (h *Host) AddFirewall() error {
	err := h.nft(func(c *nftables.Conn) {
		c.AddTable(firewall)
		for name, hook := range firewallHooks {
			chain := c.AddChain(&nftables.Chain{
				Name: name, Table: firewall, Type: nftables.ChainTypeFilter,
				Hooknum: hook, Priority: nftables.ChainPriorityFilter,
			})
			c.AddRule(&nftables.Rule{Table: firewall, Chain: chain, Exprs: append(slices.Clip(invalid),
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
				&expr.Counter{},
			)})
			c.AddRule(&nftables.Rule{Table: firewall, Chain: chain, Exprs: append(slices.Clip(invalid),
				&expr.Verdict{Kind: expr.VerdictDrop},
			)})
		}
	})
	if err != nil {
		return fmt.Errorf("add firewall to %s: %w", h.Name, err)
	}
	return nil
}

// FirewallDrops returns the number of TCP segments that the host's firewall has dropped.
func (h *Host) FirewallDrops() (uint64, error) {
	var drops uint64
	err := h.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		for name := range firewallHooks {
			rules, err := c.GetRules(firewall, &nftables.Chain{Name: name})
			if err != nil {
				return err
			}
			for _, r := range rules {
				for _, e := range r.Exprs {
					if counter, ok := e.(*expr.Counter); ok {
						drops += counter.Packets
					}
				}
			}
		}
		return nil
	})
	return drops, err
}
