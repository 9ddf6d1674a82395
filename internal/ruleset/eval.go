//go:build linux

package ruleset

import (
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Hook is a place in a packet's way: NF_INET_* of uapi linux/netfilter.h.
type Hook uint32

// Hooks.
const (
	Prerouting  Hook = unix.NF_INET_PRE_ROUTING
	Input       Hook = unix.NF_INET_LOCAL_IN
	Forward     Hook = unix.NF_INET_FORWARD
	Output      Hook = unix.NF_INET_LOCAL_OUT
	Postrouting Hook = unix.NF_INET_POST_ROUTING
)

// Outcome is the fate of a packet in a hook.
type Outcome struct {
	// Dropped, Translated: the packet is surely dropped or rejected; its source or
	// destination is surely translated.
	Dropped, Translated bool
	// MayTranslate: By may translate the packet, if matches apply that are not evaluated.
	MayTranslate bool
	// Marked: Mark is surely the packet's mark behind the hook, and not the one before it.
	Marked bool
	Mark   uint32
	// Limited: a limit of a rate may decide otherwise, see [Packet.Exceeds].
	Limited bool
	// Counts names the first rule that decides by the number of connections, or of bytes of
	// connections, and may concern the packet; the zero By if there is none.
	Counts By
	// By names the rule that does so, or the chain whose policy does.
	By By
}

// By is the cause of an outcome.
type By struct {
	Chain   string // such as "inet filter input"
	Rule    uint64 // its handle, as `nft -a list ruleset` shows it; 0 for the chain's policy
	Comment string // of the rule
	Legacy  bool   // the chain is one of the older iptables
	Policy  bool   // by the chain's policy, if Legacy is set; else Rule says it
	Base    Chain  // the chain at the hook from which the packet came there
}

// Chain names a chain.
type Chain struct{ Family, Table, Name string }

// String names the chain as nft(8) does.
func (c Chain) String() string { return c.Family + " " + c.Table + " " + c.Name }

// String names the cause in a sentence.
func (b By) String() string {
	switch {
	case b.Legacy && !b.Policy:
		return "a rule of the chain " + b.Chain + " (iptables-legacy)"
	case b.Rule == 0:
		return "the policy of the chain " + b.Chain
	case b.Comment != "":
		return fmt.Sprintf("a rule of the chain %s (handle %d, %q)", b.Chain, b.Rule, b.Comment)
	}
	return fmt.Sprintf("a rule of the chain %s (handle %d)", b.Chain, b.Rule)
}

// Hook returns the fate of a packet in a hook, without the chains of tables whose name begins
// with except, in those with a priority of at least from.
func (r *Rules) Hook(h Hook, p Packet, from int, except string) Outcome {
	out := Outcome{Mark: p.Mark}
	for _, c := range r.base {
		if uint32(*c.Hooknum) != uint32(h) || int(*c.Priority) < from || strings.HasPrefix(c.Table.Name, except) || !applies(c.Table.Family, p) {
			continue
		}
		if c.Type == nftables.ChainTypeNAT && p.State != New {
			continue // the first packet of a connection decides for all
		}
		w := walk{rules: r, packet: p, markKnown: true, limited: &out.Limited, counts: &out.Counts}
		w.packet.Mark = out.Mark
		end := w.chain(c)
		drops := end == dropped || end == continues && c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop
		switch {
		case drops && !w.doubt:
			if end == continues {
				w.by = By{Chain: nameOf(c).String()}
			}
			w.by.Base = nameOf(c)
			return Outcome{Dropped: true, By: w.by, Counts: out.Counts}
		case end == translated && !w.doubt && c.Type == nftables.ChainTypeNAT:
			out.Translated, out.By = true, w.by
			out.By.Base = nameOf(c)
		}
		if end == translated && w.doubt {
			w.mayTranslate = w.by
		}
		if w.mayTranslate.Chain != "" && c.Type == nftables.ChainTypeNAT && !out.Translated {
			out.MayTranslate, out.By = true, w.mayTranslate
			out.By.Base = nameOf(c)
		}
		if w.markKnown && w.packet.Mark != out.Mark {
			out.Mark, out.Marked, out.By = w.packet.Mark, true, w.markedBy
			out.By.Base = nameOf(c)
		}
	}
	return out
}

// applies reports whether chains of a family see the packet.
func applies(family nftables.TableFamily, p Packet) bool {
	switch family {
	case nftables.TableFamilyINet:
		return true
	case nftables.TableFamilyIPv4:
		return p.is4()
	case nftables.TableFamilyIPv6:
		return !p.is4()
	}
	return false
}

func nameOf(c *chain) Chain {
	word := map[nftables.TableFamily]string{
		nftables.TableFamilyINet: "inet", nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6",
	}[c.Table.Family]
	return Chain{word, c.Table.Name, c.Name}
}

// end is the way in which a rule or a chain ends.
type end int8

const (
	continues end = iota // with the next rule
	returned             // to the chain that jumped here
	accepted
	translated
	dropped
)

// walk is the way of one packet through the chains of one hook and priority.
type walk struct {
	rules     *Rules
	packet    Packet
	markKnown bool
	doubt     bool // a rule that is uncertain may have accepted the packet
	by        By
	markedBy  By
	depth     int
	limited   *bool // a limit of a rate was met
	counts    *By   // see Outcome
	// mayTranslate is an uncertain rule that translates.
	mayTranslate By
}

// maxDepth bounds jumps (kernel: NFT_JUMP_STACK_SIZE).
const maxDepth = 16

// place is a rule in its chain.
type place struct {
	chain *chain
	rule  rule
}

func (p place) by() By {
	return By{Chain: nameOf(p.chain).String(), Rule: p.rule.handle, Comment: p.rule.comment}
}

// set returns the full name of a set that the rule names.
func (p place) set(of string) setName {
	return setName{p.chain.Table.Family, p.chain.Table.Name, of}
}

// chain walks through a chain. It ends with continues at the chain's end.
func (w *walk) chain(c *chain) end {
	w.depth++
	defer func() { w.depth-- }()
	if w.depth > maxDepth {
		w.doubt = true
		return accepted
	}
	if c.legacy != nil {
		return w.legacy(c)
	}
	for _, r := range c.rules {
		switch e := w.rule(c, r); e {
		case continues:
		case returned:
			return continues
		default:
			return e
		}
	}
	return continues
}

// rule carries out one rule.
func (w *walk) rule(c *chain, r rule) end {
	regs := &registers{}
	at := place{c, r}
	certain := true
	for _, e := range r.exprs {
		if v := w.verdictOf(at, e, regs); v != nil {
			return w.follow(v, at, certain)
		}
		if ends, isEnd := terminal(e); isEnd {
			return w.finish(ends, at.by(), certain)
		}
		switch w.match(e, regs, at, certain) {
		case differs:
			return continues
		case uncertain:
			certain = false
		}
	}
	return continues
}

// finish ends the walk with a verdict, or leaves a doubt if the rule is uncertain.
func (w *walk) finish(e end, at By, certain bool) end {
	switch {
	case certain:
		w.by = at
		return e
	case e == translated:
		w.mayTranslate = at
		fallthrough
	case e != dropped:
		w.doubt = true
	}
	return continues
}

// follow carries out a verdict.
func (w *walk) follow(v *expr.Verdict, at place, certain bool) end {
	switch v.Kind {
	case expr.VerdictAccept:
		return w.finish(accepted, at.by(), certain)
	case expr.VerdictDrop:
		return w.finish(dropped, at.by(), certain)
	case expr.VerdictReturn:
		if !certain {
			w.doubt = true // what follows may not happen
			return continues
		}
		return returned
	case expr.VerdictJump, expr.VerdictGoto:
		to := w.rules.byName[chainName{at.chain.Table.Family, at.chain.Table.Name, v.Chain}]
		if to == nil {
			w.doubt = true
			return continues
		}
		return w.enter(to, v.Kind == expr.VerdictGoto, certain)
	case expr.VerdictContinue:
		return continues
	}
	w.doubt = true // to a queue, say
	return continues
}

// enter walks through a chain to which a rule jumps or goes.
func (w *walk) enter(to *chain, forGood, certain bool) end {
	if !certain {
		try := *w
		ends := try.chain(to)
		w.doubt = w.doubt || try.doubt || ends == accepted || ends == translated || forGood
		if ends == translated {
			w.mayTranslate = try.by
		} else if try.mayTranslate.Chain != "" {
			w.mayTranslate = try.mayTranslate
		}
		w.markKnown = w.markKnown && try.packet.Mark == w.packet.Mark
		return continues
	}
	e := w.chain(to)
	if e == continues && forGood {
		return returned
	}
	return e
}

// verdictOf returns the verdict of an expression, if it is one or a verdict map.
func (w *walk) verdictOf(at place, e any, regs *registers) *expr.Verdict {
	switch e := e.(type) {
	case *expr.Verdict:
		return e
	case *expr.Lookup:
		if e.IsDestRegSet && e.DestRegister == unix.NFT_REG_VERDICT {
			return w.mapped(at, e, regs)
		}
	}
	return nil
}

// mapped returns the verdict of a verdict map. An uncertain one is like a rule to a queue.
func (w *walk) mapped(at place, e *expr.Lookup, regs *registers) *expr.Verdict {
	unsure := &expr.Verdict{Kind: expr.VerdictContinue}
	s := w.rules.set(at.set(e.SetName))
	key := s.key(regs, e.SourceRegister)
	if key == nil {
		w.doubt = true
		return unsure
	}
	found, ok := s.find(key)
	if !ok {
		return unsure
	}
	v, err := verdict(found.Val)
	if err != nil {
		w.doubt = true
		return unsure
	}
	return v
}

// terminal reports how an expression ends the walk, if it does.
func terminal(e any) (end, bool) {
	switch e := e.(type) {
	case *expr.Reject:
		return dropped, true
	case *expr.NAT:
		return translated, true
	case opaque:
		if e.name == "masq" || e.name == "redir" {
			return translated, true
		}
	case *expr.Target:
		return targets(e.Name)
	}
	return continues, false
}
