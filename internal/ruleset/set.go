//go:build linux

package ruleset

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// set is a set or map with its elements, sorted by their keys.
type set struct {
	interval bool
	keyLen   int // bytes
	elements []nftables.SetElement
}

// set returns a set by its name, nil if its elements cannot be known.
func (r *Rules) set(name setName) *set {
	if s, read := r.sets[name]; read {
		return s
	}
	s := r.readSet(name)
	r.sets[name] = s
	return s
}

func (r *Rules) readSet(name setName) *set {
	at, err := r.conn.GetSetByName(&nftables.Table{Name: name.table, Family: name.family}, name.name)
	if err != nil || at.Concatenation && at.Interval {
		return nil // an interval of concatenations is one in each part of the key
	}
	elements, err := r.conn.GetSetElements(at)
	if err != nil {
		return nil
	}
	slices.SortStableFunc(elements, func(a, b nftables.SetElement) int {
		if c := bytes.Compare(a.Key, b.Key); c != 0 {
			return c
		}
		switch { // an interval ends where the next one begins
		case a.IntervalEnd && !b.IntervalEnd:
			return -1
		case b.IntervalEnd && !a.IntervalEnd:
			return 1
		}
		return 0
	})
	keyLen := 0 // the library does not know the length of every type
	for _, e := range elements {
		keyLen = max(keyLen, len(e.Key))
	}
	return &set{at.Interval, keyLen, elements}
}

// find returns the element that a key matches.
func (s *set) find(key []byte) (nftables.SetElement, bool) {
	for i := len(s.elements) - 1; i >= 0; i-- {
		e := s.elements[i]
		if len(e.Key) > len(key) {
			continue
		}
		switch c := bytes.Compare(e.Key, key[:len(e.Key)]); {
		case c == 0 && !s.interval:
			return e, true
		case c <= 0 && s.interval:
			return e, !e.IntervalEnd
		}
	}
	return nftables.SetElement{}, false
}

// verdict reads the value of an element of a verdict map: nested attributes of
// NFTA_DATA_VERDICT.
func verdict(value []byte) (*expr.Verdict, error) {
	ad, err := netlink.NewAttributeDecoder(value)
	if err != nil {
		return nil, err
	}
	ad.ByteOrder = binary.BigEndian
	v := &expr.Verdict{}
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_VERDICT_CODE:
			v.Kind = expr.VerdictKind(int32(ad.Uint32()))
		case unix.NFTA_VERDICT_CHAIN:
			v.Chain = ad.String()
		}
	}
	return v, ad.Err()
}
