package config

import (
	"encoding"
	"errors"
	"fmt"
	"iter"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/synbond/synbond/internal/core"
)

// Key is one key of the schema.
type Key struct {
	Name     string // with the tables that it is in, such as limits.flows
	Flag     string // without --, "" if it has none
	Word     string // of a --path, "" if it is none
	Value    string // placeholder of the flag's or the word's value
	Default  string // as text, "" if there is none
	Help     string
	Roles    []core.Role // that have the key, nil for all
	OneOf    []string    // permitted values, nil for any
	required bool
	format   format // of a text, or of the texts of a list
	min, max string
	kind     reflect.Type
	index    []int // of the field in [Settings], nil in an array of tables
}

// keys are all keys, in the order of the fields. Tables and arrays of tables are none.
var keys = slices.Collect(func(yield func(Key) bool) { walk(reflect.TypeFor[Settings](), "", nil, true, yield) })

// tables are the names of tables and of arrays of tables.
var tables = map[string]reflect.Type{}

// Keys returns all keys of the schema.
func Keys() []Key { return slices.Clone(keys) }

// keyOf returns the key of that name.
func keyOf(name string) (*Key, bool) {
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return nil, false
	}
	return &keys[i], true
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

// isTable reports whether values of type t are tables in the file.
func isTable(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(textType)
}

// isTables reports whether values of type t are arrays of tables in the file.
func isTables(t reflect.Type) bool { return t.Kind() == reflect.Slice && isTable(t.Elem()) }

// walk yields the keys of the struct t, whose names begin with prefix.
func walk(t reflect.Type, prefix string, index []int, single bool, yield func(Key) bool) bool {
	for i := range t.NumField() {
		f := t.Field(i)
		name, ok := f.Tag.Lookup("toml")
		if !ok {
			continue
		}
		at := append(slices.Clone(index), i)
		var more bool
		switch {
		case isTable(f.Type):
			tables[prefix+name] = f.Type
			more = walk(f.Type, prefix+name+".", at, single, yield)
		case isTables(f.Type):
			tables[prefix+name] = f.Type
			more = (f.Tag.Get("flag") == "" || yield(newKey(f, prefix+name, at))) &&
				walk(f.Type.Elem(), prefix+name+".", nil, false, yield)
		default:
			k := newKey(f, prefix+name, at)
			if !single {
				k.index = nil
			}
			more = yield(k)
		}
		if !more {
			return false
		}
	}
	return true
}

func newKey(f reflect.StructField, name string, index []int) Key {
	k := Key{
		Name: name, Flag: f.Tag.Get("flag"), Word: f.Tag.Get("word"), Value: f.Tag.Get("value"),
		Default: f.Tag.Get("default"), Help: f.Tag.Get("help"),
		required: f.Tag.Get("required") == "true", format: format(f.Tag.Get("format")), min: f.Tag.Get("min"), max: f.Tag.Get("max"),
		kind: f.Type, index: index,
	}
	if list := f.Tag.Get("oneof"); list != "" {
		k.OneOf = strings.Fields(list)
	}
	for _, role := range strings.Fields(f.Tag.Get("role")) {
		k.Roles = append(k.Roles, core.Role(role))
	}
	return k
}

// field is the value of a key in some settings.
type field struct {
	key   *Key
	path  string // the key's name, with the index of each entry: path[0].mode
	value reflect.Value
}

// fields yields the fields of all keys, those of every path and rule included.
func fields(s *Settings) iter.Seq[field] {
	return func(yield func(field) bool) { walkFields(reflect.ValueOf(s).Elem(), "", "", yield) }
}

func walkFields(v reflect.Value, name, path string, yield func(field) bool) bool {
	for i := range v.NumField() {
		tag, ok := v.Type().Field(i).Tag.Lookup("toml")
		if !ok {
			continue
		}
		value := v.Field(i)
		switch {
		case isTable(value.Type()):
			if !walkFields(value, name+tag+".", path+tag+".", yield) {
				return false
			}
		case isTables(value.Type()):
			for n := range value.Len() {
				if !walkFields(value.Index(n), name+tag+".", fmt.Sprintf("%s%s[%d].", path, tag, n), yield) {
					return false
				}
			}
		default:
			k, _ := keyOf(name + tag) // every field has a key
			if !yield(field{k, path + tag, value}) {
				return false
			}
		}
	}
	return true
}

// set reads text into a field of the key. In a list it becomes another element.
func (k *Key) set(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			return err
		}
		return k.check(v)
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("want " + k.want())
		}
		v.SetBool(b)
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return errors.New("want " + k.want())
		}
		v.SetInt(int64(n))
	case reflect.Slice:
		next := reflect.New(v.Type().Elem()).Elem()
		if err := k.set(next, text); err != nil {
			return err
		}
		v.Set(reflect.Append(v, next))
		return nil
	default:
		return fmt.Errorf("no text can be a %s", v.Type())
	}
	return k.check(v)
}

// check reports a value that the schema does not permit.
func (k *Key) check(v reflect.Value) error {
	switch x := v.Interface().(type) {
	case string:
		if k.OneOf != nil && !slices.Contains(k.OneOf, x) {
			return errors.New("want one of " + strings.Join(k.OneOf, ", "))
		}
		return k.format.check(x)
	case []string:
		for _, item := range x {
			if err := k.format.check(item); err != nil {
				return err
			}
		}
	case int:
		if low, high := k.bounds(); x < low || x > high {
			return errors.New("want " + k.want())
		}
	case Duration:
		least, err := time.ParseDuration(k.min)
		most, err2 := time.ParseDuration(k.max)
		if errors.Join(err, err2) == nil && (x.Duration < least || x.Duration > most) {
			return fmt.Errorf("want a time from %s to %s", k.min, k.max)
		}
	}
	return nil
}

// bounds returns the range of a number.
func (k *Key) bounds() (low, high int) {
	low, high = math.MinInt, math.MaxInt
	if k.min != "" {
		low, _ = strconv.Atoi(k.min) // a test reads every bound
	}
	if k.max != "" {
		high, _ = strconv.Atoi(k.max)
	}
	return low, high
}

// want names the kind of value that the key takes.
func (k *Key) want() string {
	t := k.kind
	switch {
	case isTables(t):
		return "tables, each under [[" + k.Name + "]]"
	case t.Kind() == reflect.Slice:
		return "a list of texts in quotes, in brackets"
	case t.Kind() == reflect.Bool, t.Kind() == reflect.Pointer:
		return "true or false"
	case t.Kind() == reflect.Int && k.max != "":
		return "a whole number from " + k.min + " to " + k.max
	case t.Kind() == reflect.Int && k.min != "":
		return "a whole number of at least " + k.min
	case t.Kind() == reflect.Int:
		return "a whole number"
	}
	return "a text in quotes" + map[reflect.Type]string{
		reflect.TypeFor[Duration](): ", such as \"20s\"",
		reflect.TypeFor[Rate]():     ", such as \"20mbit\"",
		reflect.TypeFor[Size]():     ", such as \"10GB\"",
	}[t]
}
