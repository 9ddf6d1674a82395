package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/synbond/synbond/internal/core"
)

// document is a configuration file, with the line of each of its keys.
type document struct {
	file  string
	text  []byte
	lines []string
	keys  []written
}

// written is a key, or the header of a table, as it stands in the file.
type written struct {
	name  string // such as path.mode
	path  string // with the index of each entry, such as path[0].mode
	line  int
	kind  unstable.Kind   // of the value; Table and ArrayTable for headers
	items []unstable.Kind // of an array
}

// readDocument reads a file and finds its keys, up to an error of the syntax.
func readDocument(file string) (*document, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	d := &document{file: file, text: text, lines: strings.Split(string(text), "\n")}
	p := unstable.Parser{}
	p.Reset(text)
	s := scanner{d: d, p: &p, entries: make(map[string]int)}
	for p.NextExpression() {
		s.expression(p.Expression())
	}
	return d, nil
}

// scanner finds the keys of a document.
type scanner struct {
	d          *document
	p          *unstable.Parser
	name, path string         // of the table whose keys follow, each with a dot behind
	entries    map[string]int // number of entries of each array of tables so far
}

func (s *scanner) expression(n *unstable.Node) {
	switch n.Kind {
	case unstable.Table, unstable.ArrayTable:
		name, line := s.key(n)
		path := name
		if n.Kind == unstable.ArrayTable {
			path = fmt.Sprintf("%s[%d]", name, s.entries[name])
			s.entries[name]++
		} else if first, rest, nested := strings.Cut(name, "."); nested && s.entries[first] > 0 {
			path = fmt.Sprintf("%s[%d].%s", first, s.entries[first]-1, rest) // of the last entry
		}
		s.d.keys = append(s.d.keys, written{name: name, path: path, line: line, kind: n.Kind})
		s.name, s.path = name+".", path+"."
	case unstable.KeyValue:
		s.keyValue(n, s.name, s.path)
	}
}

// keyValue notes a key and those of the inline tables in its value.
func (s *scanner) keyValue(n *unstable.Node, name, path string) {
	key, line := s.key(n)
	name, path = name+key, path+key
	value := n.Value()
	w := written{name: name, path: path, line: line, kind: value.Kind}
	at := len(s.d.keys)
	s.d.keys = append(s.d.keys, w)
	switch value.Kind {
	case unstable.InlineTable:
		for it := value.Children(); it.Next(); {
			s.keyValue(it.Node(), name+".", path+".")
		}
	case unstable.Array:
		for it, i := value.Children(), 0; it.Next(); i++ {
			item := it.Node()
			s.d.keys[at].items = append(s.d.keys[at].items, item.Kind)
			if item.Kind != unstable.InlineTable {
				continue
			}
			for in := item.Children(); in.Next(); {
				s.keyValue(in.Node(), name+".", fmt.Sprintf("%s[%d].", path, i))
			}
		}
	}
}

// key returns the dotted key of a node, and its line.
func (s *scanner) key(n *unstable.Node) (name string, line int) {
	var words []string
	for it := n.Key(); it.Next(); {
		if len(words) == 0 {
			line = s.p.Shape(it.Node().Raw).Start.Line
		}
		words = append(words, string(it.Node().Data))
	}
	return strings.Join(words, "."), line
}

// decode fills s from the document.
func (d *document) decode(s *Settings, role core.Role) error {
	for i, w := range d.keys {
		if first := d.index(w.path); first < i {
			return fmt.Errorf("%s:%d: %s is there twice, first on line %d", d.file, w.line, w.name, d.keys[first].line)
		}
		if err := d.permitted(w, role); err != nil {
			return err
		}
	}
	var wrong *toml.DecodeError
	switch err := toml.NewDecoder(bytes.NewReader(d.text)).DisallowUnknownFields().Decode(s); {
	case errors.As(err, &wrong):
		line, _ := wrong.Position()
		return d.errorAt(line, errors.New(strings.TrimPrefix(wrong.Error(), "toml: ")))
	case err != nil:
		return fmt.Errorf("%s: %s", d.file, strings.TrimPrefix(err.Error(), "toml: "))
	}
	for at := range fields(s) {
		if err := d.checkField(at); err != nil {
			return err
		}
	}
	return nil
}

// permitted checks a key as it is written: that it exists, for the role, and takes
// such a value.
func (d *document) permitted(w written, role core.Role) error {
	t, isTable := tables[w.name]
	k, isKey := keyOf(w.name)
	switch {
	case isKey && !k.isFor(role):
		return fmt.Errorf("%s:%d: the key %s is for a %s, this is the file of a %s", d.file, w.line, w.name, k.owners(), role.Title())
	case isTable && isTables(t):
		if w.kind != unstable.ArrayTable && !w.isArrayOf(unstable.InlineTable) {
			return d.errorAt(w.line, fmt.Errorf("want tables, each under [[%s]]", w.name))
		}
		return nil
	case isTable:
		if w.kind != unstable.Table && w.kind != unstable.InlineTable {
			return d.errorAt(w.line, fmt.Errorf("want a table, under [%s]", w.name))
		}
		return nil
	case !isKey:
		return fmt.Errorf("%s:%d: unknown key %s", d.file, w.line, w.name)
	case !k.takes(w):
		return d.errorAt(w.line, errors.New("want "+k.want()))
	}
	return nil
}

// takes reports whether the key takes a value of that kind.
func (k *Key) takes(w written) bool {
	switch k.kind.Kind() {
	case reflect.Bool, reflect.Pointer:
		return w.kind == unstable.Bool
	case reflect.Int:
		return w.kind == unstable.Integer
	case reflect.Slice:
		return w.isArrayOf(unstable.String)
	}
	return w.kind == unstable.String
}

func (w *written) isArrayOf(kind unstable.Kind) bool {
	return w.kind == unstable.Array && !slices.ContainsFunc(w.items, func(k unstable.Kind) bool { return k != kind })
}

// checkField checks a value that the document gives, and that a needed one is there.
func (d *document) checkField(at field) error {
	line, isThere := d.lineOf(at.path)
	if isThere {
		if err := at.key.check(at.value); err != nil {
			return d.errorAt(line, err)
		}
	}
	if at.key.required && at.value.IsZero() {
		entry, name := at.path[:strings.LastIndex(at.path, ".")], at.key.Name
		return fmt.Errorf("%s: %s has no %s", d.where(entry), ordinal(entry), name[strings.LastIndex(name, ".")+1:])
	}
	return nil
}

// ordinal counts an entry for people: path[0] is "path 1".
func ordinal(entry string) string {
	var n int
	name, index, _ := strings.Cut(entry, "[")
	_, _ = fmt.Sscan(strings.TrimSuffix(index, "]"), &n) // the scanner has written it
	return fmt.Sprintf("%s %d", name, n+1)
}

// lineOf returns the line of a key or of an entry.
func (d *document) lineOf(path string) (line int, ok bool) {
	if d == nil {
		return 0, false
	}
	i := d.index(path)
	if i < 0 {
		return 0, false
	}
	return d.keys[i].line, true
}

// index returns the index of a key or an entry in d.keys, or -1.
func (d *document) index(path string) int {
	return slices.IndexFunc(d.keys, func(w written) bool { return w.path == path })
}

// where names the file, and the line of a key if the file has it.
func (d *document) where(path string) string {
	if line, ok := d.lineOf(path); ok {
		return fmt.Sprintf("%s:%d", d.file, line)
	}
	return d.file
}

// errorAt shows the line with the mistake.
func (d *document) errorAt(line int, err error) error {
	text := ""
	if line >= 1 && line <= len(d.lines) {
		text = WithoutPassword(strings.TrimSpace(d.lines[line-1]))
	}
	return fmt.Errorf("%s:%d: %s: %w", d.file, line, text, err)
}
