//go:build linux

package ruleset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Rules are the rules of a network namespace at one moment.
type Rules struct {
	// Route looks up routes for matches by fib; nil makes them uncertain.
	Route Route

	base   []*chain // by priority
	tables []*chain // those of nftables among them
	byName map[chainName]*chain
	sets   map[setName]*set // nil: cannot be read
	conn   *nftables.Conn
}

// chainName and setName are unique within a namespace.
type (
	chainName struct {
		family      nftables.TableFamily
		table, name string
	}
	setName struct {
		family      nftables.TableFamily
		table, name string
	}
)

// chain is a chain with its rules.
type chain struct {
	*nftables.Chain
	rules  []rule
	legacy *legacy // in the place of rules, for chains of the older iptables
}

// rule is a rule of a chain.
type rule struct {
	handle  uint64
	comment string
	exprs   []any // of package expr, or opaque
}

// opaque is an expression that this package does not read.
type opaque struct{ name string }

// Read reads the rules of the network namespace of the calling thread.
func Read() (*Rules, error) {
	r, err := read()
	if err != nil {
		return nil, err
	}
	return r.withLegacy(), nil
}

// read reads the rules of nftables.
func read() (*Rules, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	all, err := c.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	r := &Rules{byName: make(map[chainName]*chain), sets: make(map[setName]*set), conn: c}
	for _, ch := range all {
		at := &chain{Chain: ch}
		r.byName[chainName{ch.Table.Family, ch.Table.Name, ch.Name}] = at
		if ch.Hooknum != nil && ch.Priority != nil {
			r.tables = append(r.tables, at)
		}
	}
	if err := r.readRules(); err != nil {
		return nil, fmt.Errorf("list nftables rules: %w", err)
	}
	return r, nil
}

// withLegacy returns the rules with those of the older iptables, as they are now.
func (r *Rules) withLegacy() *Rules {
	r.base = slices.Concat(r.tables, readLegacy())
	slices.SortStableFunc(r.base, func(a, b *chain) int { return int(*a.Priority) - int(*b.Priority) })
	return r
}

// readRules reads the rules of all chains in one request. The library's own reader leaves out
// the expressions that it does not know, and so the loads before comparisons.
func (r *Rules) readRules() error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	answers, err := c.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE,
			Flags: netlink.Request | netlink.Dump,
		},
		Data: []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return err
	}
	for _, m := range answers {
		if m.Header.Type != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWRULE || len(m.Data) < 4 {
			continue
		}
		if err := r.readRule(nftables.TableFamily(m.Data[0]), m.Data[4:]); err != nil {
			return err
		}
	}
	return nil
}

func (r *Rules) readRule(family nftables.TableFamily, b []byte) error {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return err
	}
	ad.ByteOrder = binary.BigEndian
	var of rule
	in := chainName{family: family}
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_RULE_TABLE:
			in.table = ad.String()
		case unix.NFTA_RULE_CHAIN:
			in.name = ad.String()
		case unix.NFTA_RULE_HANDLE:
			of.handle = ad.Uint64()
		case unix.NFTA_RULE_USERDATA:
			of.comment, _ = userdata.GetString(ad.Bytes(), userdata.TypeComment)
		case unix.NFTA_RULE_EXPRESSIONS:
			ad.Nested(func(nad *netlink.AttributeDecoder) error {
				for nad.Next() {
					nad.Do(func(b []byte) error {
						e, err := readExpr(byte(family), b)
						of.exprs = append(of.exprs, e)
						return err
					})
				}
				return nad.Err()
			})
		}
	}
	if at := r.byName[in]; at != nil { // else the chain is younger than the list of chains
		at.rules = append(at.rules, of)
	}
	return ad.Err()
}

// readExpr reads an expression of a rule.
func readExpr(family byte, b []byte) (any, error) {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return nil, err
	}
	var name string
	var data []byte
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_EXPR_NAME:
			name = ad.String()
		case unix.NFTA_EXPR_DATA:
			data = ad.Bytes()
		}
	}
	if err := ad.Err(); err != nil {
		return nil, err
	}
	return parse(family, name, data), nil
}

// parse returns an expression of package expr, or opaque.
func parse(family byte, name string, data []byte) any {
	known := map[string]func() expr.Any{
		"meta": func() expr.Any { return new(expr.Meta) }, "payload": func() expr.Any { return new(expr.Payload) },
		"cmp": func() expr.Any { return new(expr.Cmp) }, "bitwise": func() expr.Any { return new(expr.Bitwise) },
		"range": func() expr.Any { return new(expr.Range) }, "lookup": func() expr.Any { return new(expr.Lookup) },
		"immediate": func() expr.Any { return new(expr.Immediate) }, "ct": func() expr.Any { return new(expr.Ct) },
		"fib": func() expr.Any { return new(expr.Fib) }, "reject": func() expr.Any { return new(expr.Reject) },
		"nat": func() expr.Any { return new(expr.NAT) }, "match": func() expr.Any { return new(expr.Match) },
		"target": func() expr.Any { return new(expr.Target) }, "limit": func() expr.Any { return new(expr.Limit) },
		"dynset": func() expr.Any { return new(expr.Dynset) },
	}[name]
	if known == nil {
		return opaque{objectName(name, data)}
	}
	e := known()
	if expr.Unmarshal(family, data, e) != nil {
		return opaque{name}
	}
	if at, ok := e.(*expr.Immediate); ok && at.Register == unix.NFT_REG_VERDICT {
		e = new(expr.Verdict)
		if expr.Unmarshal(family, data, e) != nil {
			return opaque{name}
		}
	}
	return e
}

// Names of references to objects that may end a rule.
const (
	objectQuota = "quota object"
	objectLimit = "limit object"
)

// objectName returns the name of an expression or, of a reference to an object, what that is.
func objectName(name string, data []byte) string {
	const (
		typeAttribute = 1 // NFTA_OBJREF_IMM_TYPE
		quota, limit  = 2, 4
	)
	ad, err := netlink.NewAttributeDecoder(data)
	if name != "objref" || err != nil {
		return name
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		if ad.Type() == typeAttribute {
			switch ad.Uint32() {
			case quota:
				return objectQuota
			case limit:
				return objectLimit
			}
		}
	}
	return name
}

// Reader reads rules again only if they have changed. It is for one goroutine at a time.
type Reader struct {
	generation []byte
	rules      *Rules
}

// Read returns the rules of the network namespace of the calling thread, which must always be
// the same.
func (r *Reader) Read() (*Rules, error) {
	now, err := generation()
	if err != nil {
		return nil, fmt.Errorf("read the generation of nftables rules: %w", err)
	}
	if r.rules == nil || !bytes.Equal(now, r.generation) {
		if r.rules, err = read(); err != nil {
			return nil, err
		}
		r.generation = now
	}
	return r.rules.withLegacy(), nil
}

// generation returns the kernel's answer about the generation of the rules, which changes with
// every transaction.
func generation() ([]byte, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	answers, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	switch {
	case err != nil:
		return nil, err
	case len(answers) == 0 || len(answers[0].Data) < 12:
		return nil, errors.New("the answer is too short")
	}
	return answers[0].Data[4:12], nil // NFTA_GEN_ID comes first
}
