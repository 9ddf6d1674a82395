//go:build linux

package nfq

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"golang.org/x/sys/unix"
)

// Install installs the rules in one transaction, which also replaces the rules of an
// earlier box of the same role.
func (r Rules) Install() error {
	err := r.commit()
	// ENOENT: the kernel lacks the native queue expression.
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		r.xtQueue = true
		err = r.commit()
	}
	if err != nil {
		return fmt.Errorf("install nftables rules: %w", err)
	}
	return nil
}

func (r Rules) commit() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	tables := r.tables()
	_, there, err := find(r.Role)
	if err != nil {
		return err
	}
	for _, old := range there { // that the rules have no longer
		if !slices.ContainsFunc(tables, func(t table) bool { return t.family == old.Family }) {
			c.DelTable(old)
		}
	}
	for _, t := range tables {
		if err := t.add(c, tableName(r.Role)); err != nil {
			return err
		}
	}
	return c.Flush()
}

// add adds the table to a transaction, in the place of an earlier one. Chains of that one stay
// at their hooks and get new rules: when a chain leaves a hook, the kernel drops every packet
// that is held in a queue (nf_queue_nf_hook_drop). So it does when connection tracking begins or
// ends, here with the first or last rule of [Rules.Tracked] if nothing else needs it.
func (t table) add(c *nftables.Conn, name string) error {
	at := &nftables.Table{Family: t.family, Name: name}
	chains, err := c.ListChainsOfTableFamily(t.family)
	if err != nil {
		return fmt.Errorf("list chains: %w", err)
	}
	// To delete what does not exist fails; to add what exists does not.
	c.AddTable(at)
	if slices.ContainsFunc(chains, func(old *nftables.Chain) bool { return old.Table.Name == name && !t.has(old) }) {
		c.DelTable(at)
		c.AddTable(at)
	}
	for _, s := range t.sets {
		elements := make([]nftables.SetElement, len(s.elements))
		for i, name := range s.elements {
			elements[i].Key = InterfaceName(name)
		}
		ns := &nftables.Set{Table: at, Name: s.name, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}
		if err := c.AddSet(ns, nil); err != nil {
			return err
		}
		c.FlushSet(ns)
		if err := c.SetAddElements(ns, elements); err != nil {
			return err
		}
	}
	policy := nftables.ChainPolicyAccept
	for _, ch := range t.chains {
		nc := &nftables.Chain{Table: at, Name: ch.name}
		if ch.hook != nil {
			nc.Type, nc.Hooknum, nc.Priority, nc.Policy = nftables.ChainTypeFilter, ch.hook, &ch.priority, &policy
		}
		c.AddChain(nc)
		c.FlushChain(nc)
		for _, rule := range ch.rules {
			c.AddRule(&nftables.Rule{Table: at, Chain: nc, Exprs: rule.exprs()})
		}
	}
	return nil
}

// has reports whether a chain in the kernel is one of the table's, at the same hook.
func (t table) has(old *nftables.Chain) bool {
	return slices.ContainsFunc(t.chains, func(ch chain) bool {
		switch {
		case ch.name != old.Name || (ch.hook == nil) != (old.Hooknum == nil):
			return false
		case ch.hook == nil:
			return true
		}
		return *ch.hook == *old.Hooknum && old.Priority != nil && ch.priority == *old.Priority && old.Type == nftables.ChainTypeFilter
	})
}

// Remove removes the rules of a role. It is no error if there are none.
func Remove(role string) error {
	c, tables, err := find(role)
	if err != nil || len(tables) == 0 {
		return err
	}
	for _, t := range tables {
		c.DelTable(t)
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("remove nftables rules: %w", err)
	}
	return nil
}

// find returns the tables of a role.
func find(role string) (*nftables.Conn, []*nftables.Table, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, nil, fmt.Errorf("open nftables: %w", err)
	}
	tables, err := c.ListTables()
	if err != nil {
		return nil, nil, fmt.Errorf("list nftables tables: %w", err)
	}
	return c, slices.DeleteFunc(tables, func(t *nftables.Table) bool { return t.Name != tableName(role) }), nil
}

// InterfaceName returns an interface name in the kernel's form: padded to IFNAMSIZ bytes.
func InterfaceName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}
