//go:build linux

package box

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/nfq"
)

// installed is what a box knows of its rules and policy routing in the kernel.
type installed struct {
	translates atomic.Pointer[sourceRules] // by the checks of the machine

	aside atomic.Bool // the rules are not to be there, see standAside
	// byInput has the interfaces for which policy rules of other programs ask by which of
	// them a packet came in.
	byInput atomic.Pointer[[]string]
	byMark  atomic.Pointer[[]nfq.MarkRule] // policy rules of other programs

	mu         sync.Mutex // guards what follows, and makes an installation one step
	reinjects  bool       // the kernel cannot loop released SYNs
	tracked    bool       // the rules ask what has been translated
	translated uint64     // packets that earlier rules have counted
	kept       *nfq.Kept  // the rules in the kernel
	clamps     []nfq.Clamp
}

// divert binds the queue and then sends it SYNs.
func (b *Box) divert(ctx context.Context, undo *undo) error {
	if err := b.bindQueue(ctx); err != nil {
		return err
	}
	for _, r := range b.routes() {
		undo.add(r.Remove)
		if err := r.Install(); err != nil {
			return err
		}
	}
	b.survey = b.cfg.Survey()
	b.survey.Running = true
	b.check(host.Everything)
	undo.add(func() error { return nfq.Remove(string(b.cfg.Role)) })
	return b.installRules()
}

// routes returns the box's policy routing, by address family.
func (b *Box) routes() (all []nfq.Routes) {
	names := b.cfg.interfaceNames()
	for _, family := range b.families {
		all = append(all, nfq.Routes{Family: family, Interfaces: names})
	}
	return all
}

// rules returns the box's rules as the machine needs them now. The caller holds the lock.
func (b *Box) rules() nfq.Rules {
	r := b.cfg.Rules(nfq.Listeners{Plain: b.kernel.relay.Listeners(false), Paths: b.kernel.relay.Listeners(true)}, b.core.Policy())
	r.Reinjects, r.Tracked, r.Clamps = b.installed.reinjects, b.installed.tracked, b.installed.clamps
	return r
}

// installRules installs the rules, in the place of those that are there.
func (b *Box) installRules() error {
	b.installed.mu.Lock()
	defer b.installed.mu.Unlock()
	return b.installRulesLocked()
}

func (b *Box) installRulesLocked() error {
	n, err := nfq.Translated(string(b.cfg.Role))
	if err != nil {
		return err
	}
	if b.installed.tracked, err = nfq.Translates(); err != nil {
		return err
	}
	rules := b.rules()
	if err := rules.Install(); err != nil {
		return err
	}
	b.installed.translated += n
	b.installed.kept, err = rules.Keep()
	return err
}

// translated returns the number of SYNs that passed because something on the machine has
// changed their destination.
func (b *Box) translated() uint64 {
	if b.kernel.queue == nil {
		return 0 // there are doubles
	}
	b.installed.mu.Lock()
	defer b.installed.mu.Unlock()
	n, err := nfq.Translated(string(b.cfg.Role))
	if err != nil {
		b.cfg.Log.Warn("translated connections are not counted", "err", err)
	}
	return b.installed.translated + n
}

// rulesChanged returns what others have changed about the rules, "" for nothing. It also
// fits the rules to what else there is on the machine.
func (b *Box) rulesChanged() (string, error) {
	b.installed.mu.Lock()
	defer b.installed.mu.Unlock()
	words, moved, err := b.installed.kept.Changes()
	if words != "" || err != nil {
		return words, err
	}
	translates := nfq.Translates
	switch {
	case moved:
	case b.installed.tracked:
		return "", nil
	default:
		translates = nfq.TranslatesByLegacy // of which nftables knows nothing
	}
	if tracked, err := translates(); err != nil || tracked == b.installed.tracked {
		return "", err
	}
	return "", b.installRulesLocked()
}

// routesChanged looks for policy rules of other programs that ask for a packet's incoming
// interface.
func (b *Box) routesChanged() {
	var names []string
	var marks []nfq.MarkRule
	for _, r := range b.routes() {
		names = append(names, r.ByInput()...)
		marks = append(marks, r.ByMark()...)
	}
	b.installed.byInput.Store(&names)
	b.installed.byMark.Store(&marks)
}

// routedByMark reports whether a policy rule treats a packet with the one mark otherwise than
// one with the other.
func (b *Box) routedByMark(one, other uint32) bool {
	rules := b.installed.byMark.Load()
	return rules != nil && slices.ContainsFunc(*rules, func(m nfq.MarkRule) bool { return m.Applies(one) != m.Applies(other) })
}

// routedByInput reports whether a policy rule chooses the way of packets because they come in
// by the interface with that index.
func (b *Box) routedByInput(index uint32) bool {
	names := b.installed.byInput.Load()
	return names != nil && len(*names) > 0 && slices.Contains(*names, interfaceName(index))
}

// interfaceName returns the name of an interface, "" if it has gone.
func interfaceName(index uint32) string {
	dev, err := net.InterfaceByIndex(int(index))
	if err != nil {
		return ""
	}
	return dev.Name
}
