//go:build linux

package ruleset

import (
	"encoding/binary"
	"net"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// match carries out an expression that is no verdict: it reports whether the rule goes on.
func (w *walk) match(e any, regs *registers, at place, certain bool) truth {
	switch e := e.(type) {
	case *expr.Meta:
		return w.meta(e, regs, at, certain)
	case *expr.Payload:
		return w.payload(e, regs)
	case *expr.Ct:
		switch e.Key {
		case expr.CtKeyBYTES, expr.CtKeyPKTS, expr.CtKeyAVGPKT:
			w.count(at.by())
		}
		return w.ct(e, regs)
	case *expr.Fib:
		return w.fib(e, regs)
	case *expr.Bitwise:
		regs.bitwise(e)
	case *expr.Immediate:
		regs.put(e.Register, e.Data)
	case *expr.Cmp:
		return regs.compare(e)
	case *expr.Range:
		return regs.within(e)
	case *expr.Lookup:
		return w.lookup(e, regs, at)
	case *expr.Limit:
		return w.limit(e.Over)
	case *expr.Dynset:
		return w.dynset(e, at.by())
	case *expr.Match:
		return w.xtMatch(e, at.by())
	case *expr.Target:
		w.xtTarget(e, at.by(), certain)
	case opaque:
		if counting[e.name] {
			w.count(at.by())
		}
		return w.unread(e, regs)
	}
	return matches
}

// counting expressions and matches decide by numbers of connections, bytes or packets.
var counting = map[string]bool{
	"connlimit": true, "quota": true, objectQuota: true, "connbytes": true,
}

// count notes a rule that counts.
func (w *walk) count(by By) {
	if *w.counts == (By{}) {
		*w.counts = by
	}
}

// limit carries out a limit of a rate: it matches below the rate or, with over, above it.
func (w *walk) limit(over bool) truth {
	*w.limited = true
	if !w.packet.Exceeds {
		return uncertain
	}
	return truthOf(over)
}

// dynset adds an element to a set. Limits within it, as meters have, count for the element
// (kernel: nft_dynset_eval).
func (w *walk) dynset(e *expr.Dynset, by By) truth {
	all := matches
	for _, of := range e.Exprs {
		switch of := of.(type) {
		case *expr.Limit:
			if t := w.limit(of.Over); t != matches {
				all = t
			}
		case *expr.Counter:
		default: // those of connections, which package expr names, and quotas
			w.count(by)
			return uncertain
		}
	}
	return all
}

// passive expressions have no part in the fate of a packet. Others that are not read may
// end the rule.
var passive = map[string]bool{
	"counter": true, "log": true, "notrack": true, "objref": true, "secmark": true, "dup": true, "tproxy": true, "last": true,
}

func (w *walk) unread(e opaque, regs *registers) truth {
	if passive[e.name] {
		return matches
	}
	regs.forget(0, 0) // it may write to any of them
	return uncertain
}

// meta loads what is known of a packet, or sets its mark.
func (w *walk) meta(e *expr.Meta, regs *registers, at place, certain bool) truth {
	if e.SourceRegister {
		if e.Key == expr.MetaKeyMARK {
			w.setMark(regs.get(e.Register, 4), at, certain)
		}
		return matches
	}
	p := w.packet
	value := w.metaValue(e.Key)
	switch {
	case value != nil:
		regs.put(e.Register, value)
	case e.Key == expr.MetaKeyIIFNAME && p.In == "", e.Key == expr.MetaKeyOIFNAME && p.Out == "":
		regs.put(e.Register, make([]byte, unix.IFNAMSIZ)) // kernel: nft_meta_store_ifname
	default:
		regs.forget(e.Register, 16)
	}
	return matches
}

// metaValue returns what is known of a packet, nil if it is not.
func (w *walk) metaValue(key expr.MetaKey) []byte {
	p := w.packet
	switch key {
	case expr.MetaKeyMARK:
		if !w.markKnown {
			return nil
		}
		return binaryutil.NativeEndian.PutUint32(p.Mark)
	case expr.MetaKeyIIFNAME:
		return interfaceName(p.In)
	case expr.MetaKeyOIFNAME:
		return interfaceName(p.Out)
	case expr.MetaKeyIIF:
		return interfaceIndex(p.In)
	case expr.MetaKeyOIF:
		return interfaceIndex(p.Out)
	case expr.MetaKeyNFPROTO:
		if p.is4() {
			return []byte{unix.NFPROTO_IPV4}
		}
		return []byte{unix.NFPROTO_IPV6}
	case expr.MetaKeyL4PROTO:
		return []byte{p.protocol()}
	case expr.MetaKeyPROTOCOL:
		if p.is4() {
			return binary.BigEndian.AppendUint16(nil, unix.ETH_P_IP)
		}
		return binary.BigEndian.AppendUint16(nil, unix.ETH_P_IPV6)
	case expr.MetaKeyPKTTYPE:
		return []byte{unix.PACKET_HOST}
	}
	return nil
}

func interfaceName(name string) []byte {
	if name == "" {
		return nil
	}
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// interfaceIndex returns the index of an interface, 0 if it does not exist: no rule has that.
func interfaceIndex(name string) []byte {
	if name == "" {
		return nil
	}
	dev, err := net.InterfaceByName(name)
	if err != nil {
		return make([]byte, 4)
	}
	return binaryutil.NativeEndian.PutUint32(uint32(dev.Index))
}

// setMark sets the packet's mark, to an unknown one if value is nil.
func (w *walk) setMark(value []byte, at place, certain bool) {
	if value == nil || !certain {
		w.markKnown = false
		return
	}
	w.packet.Mark, w.markKnown, w.markedBy = binaryutil.NativeEndian.Uint32(value), true, at.by()
}

// payload loads a part of the packet.
func (w *walk) payload(e *expr.Payload, regs *registers) truth {
	if e.OperationType == expr.PayloadWrite {
		return matches
	}
	begin := -1
	switch e.Base {
	case expr.PayloadBaseNetworkHeader:
		begin = 0
	case expr.PayloadBaseTransportHeader:
		begin = w.packet.transport()
	}
	begin, n := begin+int(e.Offset), int(e.Len)
	if e.Base != expr.PayloadBaseNetworkHeader && e.Base != expr.PayloadBaseTransportHeader || begin+n > len(w.packet.Data) {
		regs.forget(e.DestRegister, n)
		return matches
	}
	regs.put(e.DestRegister, w.packet.Data[begin:begin+n])
	return matches
}

// ct loads the state of connection tracking. Without an entry all else does not match
// (kernel: nft_ct_get_eval).
func (w *walk) ct(e *expr.Ct, regs *registers) truth {
	switch {
	case e.SourceRegister:
		return matches
	case e.Key == expr.CtKeySTATE:
		regs.put(e.Register, binaryutil.NativeEndian.PutUint32(uint32(w.packet.State)))
		return matches
	case w.packet.State == Untracked:
		return differs
	}
	regs.forget(e.Register, 16)
	return matches
}

// lookup looks a register up in a set, or loads the value of a map.
func (w *walk) lookup(e *expr.Lookup, regs *registers, at place) truth {
	s := w.rules.set(at.set(e.SetName))
	key := s.key(regs, e.SourceRegister)
	if key == nil {
		if e.IsDestRegSet {
			regs.forget(e.DestRegister, 16)
		}
		return uncertain
	}
	found, ok := s.find(key)
	if e.IsDestRegSet {
		regs.put(e.DestRegister, found.Val)
	}
	return truthOf(ok != e.Invert)
}

// key reads a key of the set from a register, nil if it is not known.
func (s *set) key(regs *registers, register uint32) []byte {
	if s == nil {
		return nil
	}
	return regs.get(register, s.keyLen)
}
