package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/synbond/synbond/internal/core"
)

// Load returns the settings of a box: the defaults, then the keys in file, then
// those given by flags. Without a role, keys of both roles are permitted. The file
// may be "" and flags nil. A mistake in a flag is a [*FlagError].
func Load(role core.Role, file string, flags *Flags) (*Settings, error) {
	s := Defaults(role)
	if file != "" {
		d, err := readDocument(file)
		if err != nil {
			return nil, err
		}
		s.origin = d
		if err := d.decode(s, role); err != nil {
			return nil, err
		}
	}
	if flags != nil {
		if err := flags.apply(s, role); err != nil {
			return nil, err
		}
	}
	s.complete()
	s.Control = named(s.Control, role)
	if err := s.checkQuotas(); err != nil {
		return nil, err
	}
	return s, nil
}

// checkQuotas reports a path or a user with a period of a quota, and without a quota. The default
// period asks for nothing.
func (s *Settings) checkQuotas() error {
	plain := Path{}.withDefaults()
	for i, p := range s.Paths {
		if p.Quota == 0 && (p.QuotaPeriod != plain.QuotaPeriod || p.QuotaStart != plain.QuotaStart) {
			return s.mistake(fmt.Sprintf("path[%d]", i), fmt.Errorf("path %s: a quota of no bytes: leave its period out, or choose another mode", p.name()))
		}
	}
	for i, u := range s.Users {
		if u.Quota == 0 && (u.QuotaPeriod != plain.QuotaPeriod || u.QuotaStart != plain.QuotaStart) {
			return s.mistake(fmt.Sprintf("user[%d]", i), fmt.Errorf("user %q: a quota of no bytes: leave its period out", u.Name))
		}
	}
	return nil
}

// GuessRole returns the role of the box whose configuration the file is: only a gateway has no
// paths, and of the others only a HAG has a key join, or a table gateway.
func GuessRole(file string) (core.Role, error) {
	d, err := readDocument(file)
	if err != nil {
		return "", err
	}
	has := func(name string) bool {
		return slices.ContainsFunc(d.keys, func(w written) bool { return w.name == name || strings.HasPrefix(w.name, name+".") })
	}
	switch {
	case has("gateway") && !has("path") && !has("plain"):
		return core.Gateway, nil
	case has("join"), has("gateway"):
		return core.HAG, nil
	}
	return core.CPE, nil
}

// mistake adds to an error about a key its line in the file, or its flag.
func (s *Settings) mistake(path string, err error) error {
	name, _, _ := strings.Cut(path, "[")
	if slices.Contains(s.given, name) {
		k, _ := keyOf(name)
		return &FlagError{k.Flag, err}
	}
	if line, ok := s.origin.lineOf(path); ok {
		return fmt.Errorf("%s:%d: %w", s.origin.file, line, err)
	}
	return err
}
