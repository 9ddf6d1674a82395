//go:build linux

package host

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/ruleset"
)

// Translation is a rule of another program that changes the source of what leaves by an
// interface, as `masquerade` does. It does not apply to relayed connections, which are not
// tracked: the box dials those from its own address.
type Translation struct {
	Interface string
	IPv4      bool // else IPv6
	By        ruleset.By
	// Unsure: matches of the rule are not evaluated. To dial from the box's own address is
	// right also if the rule does not apply; to dial from the client's is not if it does.
	Unsure bool
}

// Translations returns the translations of connections that the box relays.
func (s Survey) Translations() (all []Translation, err error) {
	filter, err := s.Filter()
	if err != nil {
		return nil, err
	}
	plains, paths := s.ifnames()
	for _, plain := range plains {
		for _, path := range paths {
			in, out := plain, path
			if s.HAG {
				in, out = path, plain
			}
			for _, e := range s.ends(plain, path) {
				t := Translation{Interface: out, IPv4: e.client.Addr().Is4()}
				if t.By, t.Unsure = translates(filter, in, out, e); t.By.Chain != "" && !known(all, t) {
					all = append(all, t)
				}
			}
		}
	}
	return all, nil
}

// translates returns the rule that translates the source of a connection, the zero By without one.
func translates(filter Filter, in, out string, e ends) (by ruleset.By, unsure bool) {
	syn := ruleset.Segment{Protocol: unix.IPPROTO_TCP, From: e.client, To: e.server, Flags: ruleset.SYN}
	p := ruleset.Packet{In: in, State: ruleset.New, Data: syn.Bytes()}
	for _, h := range []ruleset.Hook{ruleset.Prerouting, ruleset.Forward} { // where rules mark what they translate
		if o := filter.Hook(h, p, always, ownTables); o.Marked {
			p.Mark = o.Mark
		}
		p.Out = out
	}
	if o := filter.Hook(ruleset.Postrouting, p, always, ownTables); o.Translated || o.MayTranslate {
		return o.By, !o.Translated
	}
	return ruleset.By{}, false
}

func known(all []Translation, t Translation) bool {
	for _, o := range all {
		if o.Interface == t.Interface && o.IPv4 == t.IPv4 {
			return true
		}
	}
	return false
}

// ownSource finds connections that the box dials from its own address because of a translation.
func (s Survey) ownSource() (found []Finding, err error) {
	all, err := s.Translations()
	for _, t := range all {
		family := map[bool]string{true: "IPv4", false: "IPv6"}[t.IPv4]
		if t.IPv4 && s.OwnSource {
			continue
		}
		verb := "translates"
		if t.Unsure {
			verb = "may translate"
		}
		found = append(found, OwnSource.Finding(family+" "+t.Interface,
			fmt.Sprintf("%s %s the sources of %s connections that leave by %s", t.By, verb, family, t.Interface)))
	}
	return found, err
}
