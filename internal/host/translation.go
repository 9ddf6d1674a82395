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
}

// Translations returns the translations of connections that the box relays, of those that are
// surely translated.
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
				if t.By = translates(filter, in, out, e); t.By.Chain != "" && !known(all, t) {
					all = append(all, t)
				}
			}
		}
	}
	return all, nil
}

// translates returns the rule that translates the source of a connection, the zero By without one.
func translates(filter Filter, in, out string, e ends) ruleset.By {
	syn := ruleset.Segment{Protocol: unix.IPPROTO_TCP, From: e.client, To: e.server, Flags: ruleset.SYN}
	p := ruleset.Packet{In: in, Out: out, State: ruleset.New, Data: syn.Bytes()}
	if o := filter.Hook(ruleset.Postrouting, p, always, ownTables); o.Translated {
		return o.By
	}
	return ruleset.By{}
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
		found = append(found, OwnSource.Finding(family+" "+t.Interface,
			fmt.Sprintf("%s translates the sources of %s connections that leave by %s", t.By, family, t.Interface)))
	}
	return found, err
}
