//go:build linux

package ruleset

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"unsafe"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// Rules of the older iptables (x_tables with its own tables), read by getsockopt as iptables(8)
// does: uapi linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h,
// linux/netfilter/x_tables.h.

// legacy is a table of iptables with one of its hooks. Entries follow one another in the
// blob; verdicts that are not negative are offsets of entries to jump to.
type legacy struct {
	layout      layout
	blob        []byte
	entry       int // offset of the hook's first entry
	policyEntry int // offset of the entry that has the chain's policy
}

// layout has the offsets of struct ipt_entry or struct ip6t_entry.
type layout struct {
	address              int  // bytes
	names                int  // of the interfaces: two names, then two masks, 16 bytes each
	protocol             int  // u16
	protocolMeans        byte // the flag without which the protocol does not count, 0 for none
	goesTo               byte // the flag of a goto
	flags, inverted      int
	target, next, header int
}

var (
	layout4 = layout{4, 16, 80, 0, 2, 82, 83, 88, 90, 112}
	layout6 = layout{16, 64, 128, 1, 4, 131, 132, 140, 142, 168}
)

// Flags of entries: IPT_F_GOTO, IPT_INV_*; IP6T_F_GOTO and IP6T_INV_* differ in place only.
const (
	invertIn       = 0x01
	invertOut      = 0x02
	invertSrc      = 0x08
	invertDst      = 0x10
	invertFragment = 0x20
	invertProtocol = 0x40
)

// legacyTables are the tables of iptables with their priorities by hook.
var legacyTables = map[string]map[Hook]int{
	"raw":      {Prerouting: -300, Output: -300},
	"mangle":   {Prerouting: -150, Input: -150, Forward: -150, Output: -150, Postrouting: -150},
	"nat":      {Prerouting: -100, Output: -100, Input: 100, Postrouting: 100},
	"filter":   {Input: 0, Forward: 0, Output: 0},
	"security": {Input: 50, Forward: 50, Output: 50},
}

var legacyChains = map[Hook]string{
	Prerouting: "PREROUTING", Input: "INPUT", Forward: "FORWARD", Output: "OUTPUT", Postrouting: "POSTROUTING",
}

// readLegacy reads the tables of iptables that are in use. What cannot be read is left out.
func readLegacy() (all []*chain) {
	for _, f := range []struct {
		family nftables.TableFamily
		domain int
		level  int
		names  string
		layout layout
	}{
		{nftables.TableFamilyIPv4, unix.AF_INET, unix.SOL_IP, "ip_tables_names", layout4},
		{nftables.TableFamilyIPv6, unix.AF_INET6, unix.SOL_IPV6, "ip6_tables_names", layout6},
	} {
		names, err := os.ReadFile("/proc/thread-self/net/" + f.names)
		if err != nil || len(names) == 0 {
			continue
		}
		fd, err := unix.Socket(f.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			continue
		}
		for _, name := range strings.Fields(string(names)) {
			all = append(all, readTable(fd, f.level, f.family, f.layout, name)...)
		}
		unix.Close(fd)
	}
	return all
}

// readTable reads one table: struct ipt_getinfo, then struct ipt_get_entries.
func readTable(fd, level int, family nftables.TableFamily, l layout, name string) (all []*chain) {
	const (
		getInfo, getEntries = 64, 65
		infoSize            = 84
		hooksAt, policyAt   = 36, 56
		sizeAt              = 80
		entriesAt           = 40
	)
	info := make([]byte, infoSize)
	copy(info[:31], name)
	if getsockopt(fd, level, getInfo, info) != nil {
		return nil
	}
	size := binary.NativeEndian.Uint32(info[sizeAt:])
	blob := make([]byte, entriesAt+int(size))
	copy(blob[:31], name)
	binary.NativeEndian.PutUint32(blob[32:], size)
	if getsockopt(fd, level, getEntries, blob) != nil {
		return nil
	}
	kind := nftables.ChainTypeFilter
	if name == "nat" {
		kind = nftables.ChainTypeNAT
	}
	for hook, at := range legacyTables[name] {
		priority, number := nftables.ChainPriority(at), nftables.ChainHook(hook)
		all = append(all, &chain{
			Chain: &nftables.Chain{
				Name: legacyChains[hook], Table: &nftables.Table{Name: name, Family: family},
				Type: kind, Hooknum: &number, Priority: &priority,
			},
			legacy: &legacy{
				l, blob[entriesAt:], int(binary.NativeEndian.Uint32(info[hooksAt+4*hook:])),
				int(binary.NativeEndian.Uint32(info[policyAt+4*hook:])),
			},
		})
	}
	return all
}

func getsockopt(fd, level, name int, b []byte) error {
	n := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// maxSteps bounds the entries that a packet visits.
const maxSteps = 1 << 16

// Verdicts of entries that do not jump: -NF_DROP-1, -NF_ACCEPT-1 (uapi linux/netfilter.h).
const (
	xtDrop   = -1
	xtAccept = -2
)

// cursor is the place of a packet in a table of iptables.
type cursor struct {
	at    int   // offset of an entry
	stack []int // of those to return to
}

// legacy walks through a table of iptables (kernel: ipt_do_table).
func (w *walk) legacy(c *chain) end {
	t := c.legacy
	for k, steps := (cursor{at: t.entry}), 0; steps < maxSteps; steps++ {
		e, target, ok := t.entryAt(k.at)
		if !ok {
			break
		}
		by := By{Chain: nameOf(c).String(), Legacy: true, Policy: k.at == t.policyEntry}
		fits := w.entry(t.layout, e[:target], by)
		if fits == differs {
			k.at += len(e)
			continue
		}
		ends := continues
		if name := xtName(e[target:]); name == "" {
			ends = w.standard(t, &k, e, target, by, fits == matches)
		} else {
			if of, isEnd := targets(name); isEnd {
				ends = w.finish(of, by, fits == matches)
			}
			info := xt.Unknown(e[target+xtHeader:])
			w.xtTarget(&expr.Target{Name: name, Info: &info}, by, fits == matches)
			k.at += len(e)
		}
		if ends != continues {
			return ends
		}
	}
	w.doubt = true
	return continues
}

// entryAt returns an entry and the offset of its target.
func (t *legacy) entryAt(at int) (e []byte, target int, ok bool) {
	if at < 0 || at+t.layout.header > len(t.blob) {
		return nil, 0, false
	}
	e = t.blob[at:]
	target, next := int(binary.NativeEndian.Uint16(e[t.layout.target:])), int(binary.NativeEndian.Uint16(e[t.layout.next:]))
	if target < t.layout.header || target+36 > next || next > len(e) {
		return nil, 0, false
	}
	return e[:next], target, true
}

// standard carries out a verdict or a jump (struct xt_standard_target), and moves the cursor.
func (w *walk) standard(t *legacy, k *cursor, e []byte, target int, by By, certain bool) end {
	verdict := int(int32(binary.NativeEndian.Uint32(e[target+32:])))
	next := k.at + len(e)
	switch {
	case verdict == xtAccept || verdict == xtDrop:
		k.at = next
		return w.finish(map[int]end{xtAccept: accepted, xtDrop: dropped}[verdict], by, certain)
	case !certain: // a jump or a return that may not happen
		w.doubt = true
		k.at = next
	case verdict >= 0:
		if e[t.layout.flags]&t.layout.goesTo == 0 && verdict != next {
			k.stack = append(k.stack, next)
		}
		k.at = verdict
	case len(k.stack) > 0: // XT_RETURN
		last := len(k.stack) - 1
		k.at, k.stack = k.stack[last], k.stack[:last]
	case k.at == t.policyEntry:
		w.doubt = true // no table of the kernel has that
		return accepted
	default:
		k.at = t.policyEntry
	}
	return continues
}

// xtHeader is the size of the head of a match or a target (struct xt_entry_match).
const xtHeader = 32

// xtName returns the name of a match or a target (struct xt_entry_match).
func xtName(b []byte) string { return string(bytes.TrimRight(b[2:31], "\x00")) }

// entry compares a packet with the header and the matches of an entry.
func (w *walk) entry(l layout, e []byte, by By) truth {
	p, inverted := w.packet, e[l.inverted]
	src, dst := p.addresses()
	inv := func(flag byte) bool { return inverted&flag != 0 }
	name := func(i int, of string) bool {
		want, mask := e[l.names+16*i:][:16], e[l.names+32+16*i:][:16]
		var have [16]byte
		copy(have[:], of)
		return masked16(have[:], want, mask)
	}
	protocol := binary.NativeEndian.Uint16(e[l.protocol:])
	counts := protocol != 0 && (l.protocolMeans == 0 || e[l.flags]&l.protocolMeans != 0)
	if masked16(src.AsSlice(), e[:l.address], e[2*l.address:][:l.address]) == inv(invertSrc) ||
		masked16(dst.AsSlice(), e[l.address:][:l.address], e[3*l.address:][:l.address]) == inv(invertDst) ||
		name(0, p.In) == inv(invertIn) || name(1, p.Out) == inv(invertOut) ||
		counts && (protocol == uint16(p.protocol())) == inv(invertProtocol) || !counts && inv(invertProtocol) {
		return differs
	}
	if l.address == 4 && e[l.flags]&1 != 0 && !inv(invertFragment) { // IPT_F_FRAG: later fragments
		return differs
	}
	all := matches
	for at := l.header; at+32 <= len(e); {
		size := int(binary.NativeEndian.Uint16(e[at:]))
		if size < 32 || at+size > len(e) {
			return uncertain
		}
		switch w.legacyMatch(l, e[at:at+size], by) {
		case differs:
			return differs
		case uncertain:
			all = uncertain
		}
		at += size
	}
	return all
}

// legacyMatch carries out a match of an entry.
func (w *walk) legacyMatch(l layout, b []byte, by By) truth {
	family := xt.TableFamily(unix.NFPROTO_IPV6)
	if l.address == 4 {
		family = unix.NFPROTO_IPV4
	}
	m := &expr.Match{Name: xtName(b), Rev: uint32(b[31])}
	info, err := xt.Unmarshal(m.Name, family, m.Rev, b[32:])
	if err != nil {
		return uncertain
	}
	m.Info = info
	return w.xtMatch(m, by)
}

// masked16 reports whether a value has the wanted bits under a mask.
func masked16(have, want, mask []byte) bool {
	for i := range mask {
		if (have[i]^want[i])&mask[i] != 0 {
			return false
		}
	}
	return true
}
