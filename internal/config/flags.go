package config

import (
	"encoding/csv"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/synbond/synbond/internal/core"
)

// Flags are the flags of a command that set keys.
type Flags struct {
	set    *pflag.FlagSet
	keys   []Key
	values Settings // as given by flags
}

// FlagError is a mistake in a flag.
type FlagError struct {
	Flag string // without --
	Err  error
}

// Error implements error.
func (e *FlagError) Error() string { return "--" + e.Flag + ": " + e.Err.Error() }

// Unwrap returns the mistake.
func (e *FlagError) Unwrap() error { return e.Err }

// NewFlags declares the flags of the keys with these names, or of all keys without
// any, as far as the role has them; a command without a role, which is about SYNs, has those
// of CPE and HAG.
func NewFlags(set *pflag.FlagSet, role core.Role, names ...string) *Flags {
	f := &Flags{set: set}
	for _, k := range keys {
		isFor := k.isFor(role) && (role != "" || k.isFor(core.CPE) || k.isFor(core.HAG))
		if k.Flag == "" || len(names) > 0 && !slices.Contains(names, k.Name) || !isFor {
			continue
		}
		f.keys = append(f.keys, k)
		v := &flagValue{key: &k, role: role, v: f.values.fieldOf(&k), text: k.defaultFor(role)}
		help := k.flagHelp(role)
		if role == "" && k.Roles != nil {
			help = k.owners() + ": " + help
		}
		flag := set.VarPF(v, k.Flag, "", help)
		if v.v.Kind() == reflect.Bool {
			flag.NoOptDefVal = "true"
		}
	}
	return f
}

// flagHelp is the help of the key's flag, with the permitted values.
func (k *Key) flagHelp(role core.Role) string {
	help := strings.Replace(k.Help, "WORDS", pathWords(role), 1)
	if k.OneOf != nil {
		help += ": " + strings.Join(k.OneOf, ", ")
	}
	return help
}

// Keys returns the keys with flags.
func (f *Flags) Keys() []Key { return slices.Clone(f.keys) }

// changed returns the keys that were given by flags.
func (f *Flags) changed() []Key {
	return slices.DeleteFunc(slices.Clone(f.keys), func(k Key) bool { return !f.set.Changed(k.Flag) })
}

// apply sets the keys that were given by flags.
func (f *Flags) apply(s *Settings, role core.Role) error {
	for _, k := range f.changed() {
		if !k.isFor(role) {
			return &FlagError{k.Flag, fmt.Errorf("is for a %s, not for a %s", k.owners(), role.Title())}
		}
		v := f.values.fieldOf(&k)
		if v.Kind() == reflect.Slice { // no load may change another's
			v = reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()), v)
		}
		s.fieldOf(&k).Set(v)
		s.given = append(s.given, k.Name)
	}
	return nil
}

// flagValue is the value of a flag, in the [Settings] of [Flags].
type flagValue struct {
	key  *Key
	role core.Role // of the command, "" without one
	v    reflect.Value
	text string // the default, then the last value given
}

// Set implements [pflag.Value].
func (f *flagValue) Set(text string) error {
	f.text = text
	switch {
	case isTables(f.v.Type()):
		p, err := parsePath(text, f.role)
		if err == nil {
			f.v.Set(reflect.Append(f.v, reflect.ValueOf(p)))
		}
		return err
	case f.v.Kind() != reflect.Slice:
		return f.key.set(f.v, text)
	case text == "":
		return nil
	}
	items, err := csv.NewReader(strings.NewReader(text)).Read() // as flags of package pflag
	if err != nil {
		return err
	}
	for _, item := range items {
		if err := f.key.set(f.v, item); err != nil {
			return err
		}
	}
	return nil
}

// String implements [pflag.Value].
func (f *flagValue) String() string { return f.text }

// Type implements [pflag.Value]: it names the value in help.
func (f *flagValue) Type() string {
	if f.v.Kind() == reflect.Bool {
		return "bool"
	}
	return f.key.Value
}

// pathKeys are the keys of a path that may be words of --path, as far as the role has them.
func pathKeys(role core.Role) []Key {
	return slices.DeleteFunc(Keys(), func(k Key) bool { return k.Word == "" || !k.isFor(role) })
}

// isFor reports whether a role has the key; without a role all keys are permitted.
func (k *Key) isFor(role core.Role) bool {
	return role == "" || k.Roles == nil || slices.Contains(k.Roles, role)
}

// owners names the roles that have the key: "CPE or HAG".
func (k *Key) owners() string {
	var titles []string
	for _, r := range k.Roles {
		titles = append(titles, r.Title())
	}
	return strings.Join(titles, " or ")
}

// backupWord is the short form of mode=backup.
const backupWord = "backup"

// pathWords lists the words of --path.
func pathWords(role core.Role) string {
	var words []string
	for _, k := range pathKeys(role) {
		words = append(words, k.Word+"="+k.Value)
	}
	if role != core.HAG {
		words = append(words, backupWord)
	}
	return strings.Join(words, ", ")
}

// parsePath reads a path as --path gives it: IF[,WORD=VALUE]….
func parsePath(text string, role core.Role) (Path, error) {
	words := strings.Split(text, ",")
	var p Path
	if err := p.set("interface", words[0]); err != nil {
		return p, fmt.Errorf("%w; then any of %s", err, pathWords(role))
	}
	for _, word := range words[1:] {
		if err := p.word(word, role); err != nil {
			return p, err
		}
	}
	return p, nil
}

// word reads one word after the interface.
func (p *Path) word(word string, role core.Role) error {
	if word == backupWord {
		word = "mode=backup"
	}
	name, value, _ := strings.Cut(word, "=")
	named := func(k Key) bool { return k.Word == name }
	all := pathKeys("")
	i := slices.IndexFunc(all, named)
	switch {
	case i < 0:
		return fmt.Errorf("%q is none of %s", word, pathWords(role))
	case !all[i].isFor(role):
		return fmt.Errorf("%q is for a %s, not for a %s: want any of %s", word, all[i].owners(), role.Title(), pathWords(role))
	}
	if name == "quota" { // the only word of two keys
		size, period, _ := strings.Cut(value, "/")
		if err := p.set("quota_period", period); err != nil && period != "" {
			return fmt.Errorf("period %q: %w", period, err)
		}
		value = size
	}
	if err := p.set(strings.TrimPrefix(all[i].Name, "path."), value); err != nil {
		return fmt.Errorf("%s %q: %w", name, value, err)
	}
	return nil
}

// OwnersOfFlag names the roles that have a flag, "" if all have it or none.
func OwnersOfFlag(flag string) string {
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Flag == flag })
	if i < 0 {
		return ""
	}
	return keys[i].owners()
}

// set reads text into the field of a key.
func (p *Path) set(name, text string) error {
	v := reflect.ValueOf(p).Elem()
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("toml") == name {
			k, _ := keyOf("path." + name)
			return k.set(v.Field(i), text)
		}
	}
	panic("a path has no key " + name) // a mistake in a tag
}
