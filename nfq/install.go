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
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: r.table()}
	// To delete a table that does not exist fails; to add one that exists does not.
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

// Remove removes the rules of a role. It is no error if there are none.
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

// Installed reports whether the rules of a role are installed.
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

// InterfaceName returns an interface name in the kernel's form: padded to IFNAMSIZ bytes.
func InterfaceName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}
