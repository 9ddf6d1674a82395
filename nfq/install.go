package nfq

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"golang.org/x/sys/unix"
)

// Install puts the rules in force, in one transaction that also replaces what
// an earlier box of the same role left behind.
func (r Rules) Install() error {
	err := r.commit()
	// A kernel without the native queue expression answers ENOENT for it.
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
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: r.table()}
	// Deleting a table that does not exist fails; adding one that exists does not.
	c.AddTable(table)
	c.DelTable(table)
	c.AddTable(table)
	for _, s := range r.sets() {
		elements := make([]nftables.SetElement, len(s.elements))
		for i, name := range s.elements {
			elements[i].Key = InterfaceName(name)
		}
		if err := c.AddSet(&nftables.Set{Table: table, Name: s.name, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}, elements); err != nil {
			return err
		}
	}
	for _, ch := range r.chains() {
		nc := &nftables.Chain{Table: table, Name: ch.name}
		if ch.hook != nil {
			nc.Type, nc.Hooknum, nc.Priority = nftables.ChainTypeFilter, ch.hook, &ch.priority
		}
		c.AddChain(nc)
		for _, rule := range ch.rules {
			c.AddRule(&nftables.Rule{Table: table, Chain: nc, Exprs: rule.exprs()})
		}
	}
	return c.Flush()
}

// Remove takes away the rules of a role, and is content when there are none.
func Remove(role string) error {
	c, table, err := find(role)
	if err != nil || table == nil {
		return err
	}
	c.DelTable(table)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("remove nftables rules: %w", err)
	}
	return nil
}

// Installed tells whether the rules of a role are in force.
func Installed(role string) (bool, error) {
	_, table, err := find(role)
	return table != nil, err
}

// find returns the table of a role, nil if there is none.
func find(role string) (*nftables.Conn, *nftables.Table, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, nil, fmt.Errorf("open nftables: %w", err)
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, nil, fmt.Errorf("list nftables tables: %w", err)
	}
	if i := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName(role) }); i >= 0 {
		return c, tables[i], nil
	}
	return c, nil, nil
}

// InterfaceName is an interface name as the kernel compares it, padded to IFNAMSIZ.
func InterfaceName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}
