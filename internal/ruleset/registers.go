//go:build linux

package ruleset

import (
	"bytes"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// registers are the data registers of the evaluation, byte by byte: 4 of 16 bytes, which
// overlap with 16 of 4 bytes (uapi linux/netfilter/nf_tables.h, nft_registers).
type registers struct {
	data  [64]byte
	known [64]bool
}

// at returns the offset of a register, and whether n bytes fit there.
func (r *registers) at(register uint32, n int) (int, bool) {
	offset := -1
	switch {
	case register >= unix.NFT_REG32_00 && register <= unix.NFT_REG32_15:
		offset = int(register-unix.NFT_REG32_00) * 4
	case register >= unix.NFT_REG_1 && register <= unix.NFT_REG_4:
		offset = int(register-unix.NFT_REG_1) * 16
	}
	return offset, offset >= 0 && offset+n <= len(r.data)
}

// put stores a value, with zeros up to the end of its last 4 bytes, as the kernel does.
func (r *registers) put(register uint32, value []byte) {
	if odd := len(value) % 4; odd != 0 {
		value = append(slices.Clone(value), make([]byte, 4-odd)...)
	}
	if at, ok := r.at(register, len(value)); ok {
		copy(r.data[at:], value)
		for i := range value {
			r.known[at+i] = true
		}
	}
}

// forget makes n bytes unknown, or all registers if n is 0.
func (r *registers) forget(register uint32, n int) {
	if n == 0 {
		r.known = [64]bool{}
		return
	}
	if at, ok := r.at(register, n); ok {
		clear(r.known[at : at+n])
	}
}

// get returns n bytes, nil unless all of them are known.
func (r *registers) get(register uint32, n int) []byte {
	at, ok := r.at(register, n)
	if !ok {
		return nil
	}
	for i := range n {
		if !r.known[at+i] {
			return nil
		}
	}
	return r.data[at : at+n]
}

// bitwise combines a register with a mask and an inversion (kernel: nft_bitwise_eval_mask_xor).
// A byte that the mask clears is known, whatever it was.
func (r *registers) bitwise(e *expr.Bitwise) {
	n := int(e.Len)
	from, ok1 := r.at(e.SourceRegister, n)
	to, ok2 := r.at(e.DestRegister, n)
	if !ok1 || !ok2 || len(e.Mask) != n || len(e.Xor) != n { // also shifts
		r.forget(e.DestRegister, n)
		return
	}
	for i := range n {
		known := r.known[from+i] || e.Mask[i] == 0
		r.data[to+i], r.known[to+i] = r.data[from+i]&e.Mask[i]^e.Xor[i], known
	}
}

// truth is the outcome of a match.
type truth int8

const (
	uncertain truth = iota
	matches
	differs
)

func truthOf(b bool) truth {
	if b {
		return matches
	}
	return differs
}

func (t truth) not() truth {
	switch t {
	case matches:
		return differs
	case differs:
		return matches
	}
	return uncertain
}

// compare carries a comparison out.
func (r *registers) compare(e *expr.Cmp) truth {
	at, ok := r.at(e.Register, len(e.Data))
	if !ok {
		return uncertain
	}
	if e.Op == expr.CmpOpEq || e.Op == expr.CmpOpNeq {
		equal := matches
		for i, b := range e.Data {
			switch {
			case !r.known[at+i]:
				equal = uncertain
			case r.data[at+i] != b:
				return truthOf(e.Op == expr.CmpOpNeq) // whatever the other bytes are
			}
		}
		if e.Op == expr.CmpOpNeq {
			return equal.not()
		}
		return equal
	}
	value := r.get(e.Register, len(e.Data))
	if value == nil {
		return uncertain
	}
	c := bytes.Compare(value, e.Data)
	switch e.Op {
	case expr.CmpOpLt:
		return truthOf(c < 0)
	case expr.CmpOpLte:
		return truthOf(c <= 0)
	case expr.CmpOpGt:
		return truthOf(c > 0)
	case expr.CmpOpGte:
		return truthOf(c >= 0)
	}
	return uncertain
}

// within carries a match with a range out.
func (r *registers) within(e *expr.Range) truth {
	value := r.get(e.Register, len(e.FromData))
	if value == nil || len(e.FromData) != len(e.ToData) {
		return uncertain
	}
	inside := truthOf(bytes.Compare(value, e.FromData) >= 0 && bytes.Compare(value, e.ToData) <= 0)
	if e.Op == expr.CmpOpNeq {
		return inside.not()
	}
	return inside
}
