//go:build linux

package netlab

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/synbond/synbond/nfq"
)

// Hook priorities in a line's forward hook. Silence comes after the delay, so that it
// also drops packets that were under way when the line went silent.
const (
	delayPriority   = 0
	silencePriority = 10
)

// queueRules sends forwarded packets to NFQUEUEs by the interface they leave by.
func (h *Host) queueRules(numbers map[string]uint16) error {
	// Kernels have the native expression, or the xt target, or both.
	err := h.tryQueueRules(numbers, false)
	if err == nil {
		return nil
	}
	if err2 := h.tryQueueRules(numbers, true); err2 != nil {
		return fmt.Errorf("install queue rules on %s: %w", h.Name, errors.Join(err, err2))
	}
	return nil
}

func (h *Host) tryQueueRules(numbers map[string]uint16, xt bool) error {
	return h.nft(func(c *nftables.Conn) {
		table := c.AddTable(&nftables.Table{Name: "delay", Family: nftables.TableFamilyINet})
		chain := c.AddChain(forwardChain(table, delayPriority))
		for oif, n := range numbers {
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
				&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: nfq.InterfaceName(oif)},
				nfq.QueueExpr(n, false, xt),
			}})
		}
	})
}

// silence makes the host forward nothing, or ends that.
func (h *Host) silence(on bool) error {
	table := &nftables.Table{Name: "silence", Family: nftables.TableFamilyINet}
	return h.nft(func(c *nftables.Conn) {
		c.AddTable(table) // so that there is one to delete
		c.DelTable(table)
		if !on {
			return
		}
		c.AddTable(table)
		chain := c.AddChain(forwardChain(table, silencePriority))
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Verdict{Kind: expr.VerdictDrop},
		}})
	})
}

func forwardChain(table *nftables.Table, priority nftables.ChainPriority) *nftables.Chain {
	return &nftables.Chain{
		Name:     "forward",
		Table:    table,
		Type:     nftables.ChainTypeFilter,
		Hooknum:  nftables.ChainHookForward,
		Priority: nftables.ChainPriorityRef(priority),
	}
}

// nft runs one transaction in the host's namespace.
func (h *Host) nft(build func(*nftables.Conn)) error {
	return h.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		build(c)
		return c.Flush()
	})
}
