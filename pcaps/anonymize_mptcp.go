package pcaps

import (
	"encoding/binary"
	"net/netip"

	"github.com/synbond/synbond/rewrite"
)

// mptcpKeys replaces the keys of connections in a capture, and the tokens and HMACs that
// follow from them.
type mptcpKeys struct {
	m      *mapper
	conns  map[ends]*keyPair
	tokens map[uint32]keyOwner
	joins  map[ends]*rewrite.Join // by their SYN: what the SYN+ACK proves
}

// ends are both ends of a connection, the client first.
type ends struct{ client, server netip.AddrPort }

// keyPair has the keys of a connection: the client's and the server's.
type keyPair struct {
	version uint8
	key     [2]uint64
	known   [2]bool
}

// keyOwner is the end of a connection that has a token.
type keyOwner struct {
	pair *keyPair
	end  int
}

// mostConnections bounds the connections whose keys are remembered. Joins of those that are
// forgotten have wrong HMACs.
const mostConnections = 1 << 16

func (k *mptcpKeys) init(m *mapper) {
	k.m, k.conns, k.tokens, k.joins = m, make(map[ends]*keyPair), make(map[uint32]keyOwner), make(map[ends]*rewrite.Join)
}

// options writes the options of a segment, such that a replay reads the same from them.
func (k *mptcpKeys) options(out, in []byte, src, dst netip.AddrPort, flags rewrite.Flags) {
	at := 0
	var o rewrite.Option
	walk := rewrite.WalkOptions(in)
	for walk.Next(&o) {
		to := out[at : at+len(o.Raw)]
		at += len(o.Raw)
		switch o.Type {
		case rewrite.OptionEnd, rewrite.OptionUnknown, rewrite.OptionFastOpen, rewrite.OptionMPExperimental:
			copy(to, o.Raw[:min(len(o.Raw), headOf(&o))])
		default:
			copy(to, o.Raw)
		}
		k.option(to, &o, src, dst, flags)
	}
	// Of a bad option enough stays for it to be as bad.
	copy(out[at:], walk.Rest()[:min(len(walk.Rest()), 4)])
}

// headOf returns the number of bytes before the value of an option whose value goes.
func headOf(o *rewrite.Option) int {
	switch o.Type {
	case rewrite.OptionEnd:
		return 1
	case rewrite.OptionMPExperimental:
		return 3
	}
	return 2
}

// option changes keys, tokens, HMACs and addresses in a copy of an option.
func (k *mptcpKeys) option(to []byte, o *rewrite.Option, src, dst netip.AddrPort, flags rewrite.Flags) {
	switch o.Type {
	case rewrite.OptionMPCapable:
		k.capable(to, &o.MPCapable, src, dst, flags)
	case rewrite.OptionMPJoinSYN:
		binary.BigEndian.PutUint32(to[4:], k.token(o.MPJoinSYN.Token))
		k.begin(ends{src, dst}, o.MPJoinSYN)
	case rewrite.OptionMPJoinSYNACK:
		k.answer(to, ends{dst, src}, o.MPJoinSYNACK)
	case rewrite.OptionMPJoinACK:
		k.confirm(to, ends{src, dst}, o.MPJoinACK)
	case rewrite.OptionMPFastclose:
		binary.BigEndian.PutUint64(to[4:], k.m.key(binary.BigEndian.Uint64(o.Raw[4:])))
	case rewrite.OptionAddAddr:
		size := len(o.AddAddr.Address.AsSlice())
		k.m.address(to[4:4+size], o.Raw[4:4+size])
		if len(to) >= 4+size+8 {
			zero(to, len(to)-8, len(to)) // the HMAC is over the address
		}
	}
}

// capable replaces the keys of MP_CAPABLE, and remembers both.
func (k *mptcpKeys) capable(to []byte, m *rewrite.MPCapable, src, dst netip.AddrPort, flags rewrite.Flags) {
	sender, id := 0, ends{src, dst}
	if flags&rewrite.SYN != 0 && flags&rewrite.ACK != 0 {
		sender, id = 1, ends{dst, src}
	} else if _, known := k.conns[ends{dst, src}]; known && flags&rewrite.SYN == 0 {
		sender, id = 1, ends{dst, src}
	}
	for i, offset := range []int{4, 12} {
		if len(to) < offset+8 {
			break
		}
		key := [2]uint64{m.SenderKey, m.ReceiverKey}[i]
		binary.BigEndian.PutUint64(to[offset:], k.m.key(key))
		k.learn(id, m.Version, (sender+i)%2, key)
	}
}

// learn remembers a key of a connection.
func (k *mptcpKeys) learn(id ends, version uint8, end int, key uint64) {
	p := k.conns[id]
	if p == nil || p.known[end] && p.key[end] != key { // the ports are used again
		if len(k.conns) >= mostConnections {
			k.init(k.m)
		}
		p = &keyPair{}
		k.conns[id] = p
	}
	p.version, p.key[end], p.known[end] = version, key, true
	k.tokens[rewrite.Token(key, version)] = keyOwner{p, end}
}

// token returns the token that takes the place of one.
func (k *mptcpKeys) token(token uint32) uint32 {
	if owner, known := k.tokens[token]; known {
		return rewrite.Token(k.m.key(owner.pair.key[owner.end]), owner.pair.version)
	}
	sum := k.m.hash("token", binary.BigEndian.AppendUint32(nil, token))
	return binary.BigEndian.Uint32(sum[:])
}

// begin remembers what the SYN+ACK of a join must prove.
func (k *mptcpKeys) begin(id ends, m rewrite.MPJoinSYN) {
	owner, known := k.tokens[m.Token]
	if !known || !owner.pair.known[0] || !owner.pair.known[1] {
		delete(k.joins, id)
		return
	}
	if len(k.joins) >= mostConnections {
		clear(k.joins)
	}
	p := owner.pair
	k.joins[id] = &rewrite.Join{
		Version: p.version, SenderKey: p.key[owner.end], ReceiverKey: p.key[1-owner.end], ReceiverNonce: m.Nonce,
	}
}

// answer replaces the HMAC of the SYN+ACK of a join: a right one by a right one.
func (k *mptcpKeys) answer(to []byte, id ends, m rewrite.MPJoinSYNACK) {
	sum := k.m.hash("hmac", to[4:12])
	hmac := binary.BigEndian.Uint64(sum[:])
	if j := k.joins[id]; j != nil {
		j.SenderNonce = m.Nonce
		if j.VerifySYNACK(m) {
			hmac = k.renewed(*j).TruncatedHMAC()
		}
	}
	binary.BigEndian.PutUint64(to[4:], hmac)
}

// confirm replaces the HMAC of the third ACK of a join.
func (k *mptcpKeys) confirm(to []byte, id ends, m rewrite.MPJoinACK) {
	sum := k.m.hash("hmac", to[4:24])
	hmac := [20]byte(sum[:20])
	if j := k.joins[id]; j != nil {
		proof := rewrite.Join{
			Version: j.Version, SenderKey: j.ReceiverKey, ReceiverKey: j.SenderKey, SenderNonce: j.ReceiverNonce, ReceiverNonce: j.SenderNonce,
		}
		if proof.VerifyACK(m) {
			hmac = k.renewed(proof).HMAC()
		}
	}
	copy(to[4:], hmac[:])
}

// renewed returns a proof with the keys that take the place of its keys.
func (k *mptcpKeys) renewed(j rewrite.Join) rewrite.Join {
	j.SenderKey, j.ReceiverKey = k.m.key(j.SenderKey), k.m.key(j.ReceiverKey)
	return j
}
