//go:build linux

package nfq

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/nl"
)

// Kept describes the tables that [Rules.Install] has installed, as the kernel holds them: it finds
// out what others have changed about them since. It is for one goroutine at a time.
type Kept struct {
	rules      Rules
	generation uint32            // of the ruleset, at the last call of Changes that found none
	parts      map[string]string // contents of tables, chains and sets by their names
}

// Keep reads the tables of rules that have just been installed.
func (r Rules) Keep() (*Kept, error) {
	k := &Kept{rules: r}
	var err error
	if _, k.parts, err = k.read(); err != nil {
		return nil, fmt.Errorf("read nftables rules: %w", err)
	}
	return k, nil
}

// Changes returns in a few words what has changed, "" for nothing. Moved reports whether
// anything in the ruleset of this network namespace may have changed since the last call
// that found no change. The first call reports so in any case: others may have changed
// theirs while the rules were installed.
func (k *Kept) Changes() (words string, moved bool, err error) {
	c, err := dialTables()
	if err != nil {
		return "", false, err
	}
	generation, err := c.generation()
	c.Close()
	if err != nil || generation == k.generation {
		return "", false, err
	}
	generation, parts, err := k.read()
	if err != nil {
		return "", true, fmt.Errorf("read nftables rules: %w", err)
	}
	words = differences(k.parts, parts)
	if words == "" {
		k.generation = generation
	}
	return words, true, nil
}

// differences names the parts that have gone or changed, tables without their own parts.
func differences(was, is map[string]string) string {
	var gone, changed []string
	for _, name := range slices.Sorted(maps.Keys(was)) {
		now, there := is[name]
		table, _, part := strings.Cut(name, ", ")
		if _, whole := is[table]; part && !whole {
			continue
		}
		switch {
		case !there:
			gone = append(gone, name)
		case now != was[name]:
			changed = append(changed, name)
		}
	}
	for name := range is {
		if _, known := was[name]; !known {
			changed = append(changed, name)
		}
	}
	var words []string
	for _, w := range []struct {
		names []string
		have  string
	}{{gone, "gone"}, {changed, "changed"}} {
		if len(w.names) > 0 {
			words = append(words, strings.Join(w.names, "; ")+": "+w.have)
		}
	}
	return strings.Join(words, "; ")
}

// read returns the contents of the tables. They are those of one generation.
func (k *Kept) read() (uint32, map[string]string, error) {
	c, err := dialTables()
	if err != nil {
		return 0, nil, err
	}
	defer c.Close()
	for {
		before, err := c.generation()
		if err != nil {
			return 0, nil, err
		}
		parts := make(map[string]string)
		for _, t := range k.rules.tables() {
			if err := c.table(parts, t, tableName(k.rules.Role)); err != nil {
				return 0, nil, err
			}
		}
		if after, err := c.generation(); err != nil || after == before {
			return after, parts, err
		}
	}
}

// tableConn reads nftables in the form of the kernel's messages, which shows everything
// that can be changed.
type tableConn struct{ *netlink.Conn }

func dialTables() (tableConn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return tableConn{}, fmt.Errorf("open nftables: %w", err)
	}
	return tableConn{c}, nil
}

// Attributes, uapi linux/netfilter/nf_tables.h. Number 1 of messages about tables, chains,
// rules, sets and elements is the table's name.
const (
	attrTable      = 1
	attrTableName  = 1
	attrTableFlags = 2
	attrTableID    = 4

	attrChainID     = 2
	attrChainName   = 3
	attrChainHook   = 4
	attrChainPolicy = 5
	attrChainType   = 7

	attrRuleChain = 2
	attrRuleID    = 3
	attrRuleExprs = 4

	attrSetName = 2
	attrSetID   = 16

	attrElementsSet = 2
	attrElements    = 3
	attrElementKey  = 1

	attrExprName = 1

	attrGeneration     = 1
	attrGenerationName = 3 // of the process
)

// ask sends one request about a table and returns the answers. None is no error.
func (c tableConn) ask(kind netlink.HeaderType, flags netlink.HeaderFlags, family nftables.TableFamily, attributes []byte) ([]netlink.Message, error) {
	m := netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | kind, Flags: netlink.Request | flags},
		Data:   append([]byte{byte(family), unix.NFNETLINK_V0, 0, 0}, attributes...), // struct nfgenmsg
	}
	got, err := c.Execute(m)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return got, err
}

func name(kind uint16, s string) []byte { return nl.AppendBytes(nil, kind, append([]byte(s), 0)) }

func (c tableConn) generation() (uint32, error) {
	got, err := c.ask(unix.NFT_MSG_GETGEN, 0, unix.NFPROTO_UNSPEC, nil)
	for _, m := range got {
		if b := attribute(m, attrGeneration); len(b) == 4 {
			return beUint32(b), nil
		}
	}
	return 0, errors.Join(err, errors.New("nftables has no generation"))
}

// table reads a table with all of its parts.
func (c tableConn) table(parts map[string]string, t table, called string) error {
	title := "table " + t.word + " " + called
	got, err := c.ask(unix.NFT_MSG_GETTABLE, 0, t.family, name(attrTableName, called))
	if err != nil || len(got) == 0 {
		return err
	}
	parts[title] = pick(got[0], attrTableFlags, attrTableID)
	for _, ch := range t.chains {
		of := append(name(attrTable, called), name(attrChainName, ch.name)...)
		got, err := c.ask(unix.NFT_MSG_GETCHAIN, 0, t.family, of)
		if err != nil {
			return err
		}
		for _, m := range got {
			parts[title+", chain "+ch.name] = pick(m, attrChainID, attrChainHook, attrChainPolicy, attrChainType)
		}
	}
	rules, err := c.ask(unix.NFT_MSG_GETRULE, netlink.Dump, t.family, name(attrTable, called))
	if err != nil {
		return err
	}
	for _, m := range rules {
		if text(m, attrTable) == called {
			parts[title+", chain "+text(m, attrRuleChain)] += pick(m, attrRuleID) + expressions(attribute(m, attrRuleExprs))
		}
	}
	return c.sets(parts, t, called, title)
}

func (c tableConn) sets(parts map[string]string, t table, called, title string) error {
	for _, s := range t.sets {
		got, err := c.ask(unix.NFT_MSG_GETSET, 0, t.family, append(name(attrTable, called), name(attrSetName, s.name)...))
		if err != nil {
			return err
		}
		if len(got) == 0 {
			continue
		}
		all, err := c.ask(unix.NFT_MSG_GETSETELEM, netlink.Dump, t.family, append(name(attrTable, called), name(attrElementsSet, s.name)...))
		if err != nil {
			return err
		}
		var keys []string
		for _, m := range all {
			for _, element := range nl.Attributes(attribute(m, attrElements)) {
				for kind, v := range nl.Attributes(element) {
					if kind == attrElementKey {
						keys = append(keys, string(v))
					}
				}
			}
		}
		slices.Sort(keys)
		parts[title+", set "+s.name] = pick(got[0], attrSetID) + strings.Join(keys, "")
	}
	return nil
}

// expressions returns the expressions of a rule without what packets change about them.
func expressions(list []byte) string {
	var b strings.Builder
	for _, e := range nl.Attributes(list) {
		for kind, v := range nl.Attributes(e) {
			if kind == attrExprName && bytes.Equal(v, []byte("counter\x00")) {
				e = v
				break
			}
		}
		b.Write(e)
	}
	return b.String()
}

// attribute returns the content of an attribute of a message, nil if it has none of that
// kind.
func attribute(m netlink.Message, kind uint16) []byte {
	const header = 4 // struct nfgenmsg
	if len(m.Data) < header {
		return nil
	}
	for k, v := range nl.Attributes(m.Data[header:]) {
		if k == kind {
			return v
		}
	}
	return nil
}

// text returns an attribute that is a string.
func text(m netlink.Message, kind uint16) string {
	return string(bytes.TrimRight(attribute(m, kind), "\x00"))
}

// pick returns the contents of some attributes together.
func pick(m netlink.Message, kinds ...uint16) string {
	var b strings.Builder
	for _, kind := range kinds {
		v := attribute(m, kind)
		b.WriteByte(byte(len(v)))
		b.Write(v)
	}
	return b.String()
}
