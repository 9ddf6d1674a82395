//go:build linux

package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/synbond/synbond/internal/core"
)

const (
	referenceFile = "../../examples/reference.toml"
	documentation = "../../docs/configuration.md"
)

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestExamplesAreValid(t *testing.T) {
	files, err := filepath.Glob("../../examples/*.toml")
	if err != nil || len(files) < 3 {
		t.Fatalf("files %v, error %v", files, err)
	}
	for _, file := range files {
		role, err := GuessRole(file)
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := load(t, role, file, nil).Box(role)
		if err == nil {
			err = cfg.Validate()
		}
		if err != nil || strings.Contains(file, "hag") != (role == core.HAG) || strings.Contains(file, "gateway") != (role == core.Gateway) {
			t.Errorf("%s of a %s: %v", file, role, err)
		}
	}
}

// commented matches a key, or the header of a table, that is commented out.
var commented = regexp.MustCompile(`(?m)^# ([a-z0-9_]+ = |\[+[a-z]+\]+$)`)

func TestReferenceHasEveryKeyWithItsDefault(t *testing.T) {
	s := load(t, core.CPE, referenceFile, nil)
	whole := write(t, commented.ReplaceAllString(read(t, referenceFile), "$1"))
	load(t, "", whole, nil) // the commented keys are right, too
	d, err := readDocument(whole)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range Keys() {
		has := func(d *document) bool {
			return slices.ContainsFunc(d.keys, func(w written) bool { return w.name == k.Name })
		}
		switch {
		case !has(d):
			t.Errorf("%s has no key %s", referenceFile, k.Name)
		case k.Default != "" && k.isFor(core.CPE) && !has(s.origin):
			t.Errorf("%s: %s has a default and is commented out", referenceFile, k.Name)
		case !k.isFor(core.CPE) && has(s.origin):
			t.Errorf("%s: %s is not for a CPE", referenceFile, k.Name)
		}
	}
	for at := range fields(s) {
		if at.key.Default == "" {
			continue
		}
		want := reflect.New(at.key.kind).Elem()
		if err := at.key.set(want, at.key.defaultFor(core.CPE)); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(at.value.Interface(), want.Interface()) {
			t.Errorf("%s: %s is %v, the default is %v", referenceFile, at.path, at.value, want)
		}
	}
}

// row is a row of the tables of keys: flag, box and default.
type row struct{ flag, box, byDefault string }

// documented returns the rows of the tables of keys, by the name of the key. The
// heading of a table names the table in the file.
func documented(t *testing.T) map[string]row {
	t.Helper()
	heading := regexp.MustCompile("^### Keys of `\\[+([a-z]+)\\]+`")
	rows, prefix, inTable := map[string]row{}, "", false
	for line := range strings.Lines(read(t, documentation)) {
		line = strings.TrimSpace(line)
		if m := heading.FindStringSubmatch(line); m != nil {
			prefix = m[1] + "."
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		switch {
		case line == "| key | flag | box | default | meaning |":
			inTable = true
		case !inTable || strings.HasPrefix(line, "|---"):
		case !strings.HasPrefix(line, "|"):
			inTable = false
		default:
			for i := range cells {
				cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
			}
			if _, twice := rows[prefix+cells[0]]; twice || len(cells) != 5 || cells[4] == "" {
				t.Errorf("%s: there twice, or not of five cells: %s", documentation, line)
			}
			rows[prefix+cells[0]] = row{cells[1], cells[2], cells[3]}
		}
	}
	return rows
}

func TestEveryKeyIsDocumented(t *testing.T) {
	rows := documented(t)
	for _, k := range Keys() {
		want := row{box: "all", byDefault: k.Default}
		if k.Roles != nil {
			want.box = strings.ReplaceAll(k.owners(), " or ", ", ")
		}
		switch {
		case k.Flag != "":
			want.flag = strings.TrimSpace("--" + k.Flag + " " + k.Value)
		case k.Word != "":
			want.flag = "," + k.Word + "=" + k.Value
		}
		if got, there := rows[k.Name]; !there || got != want {
			t.Errorf("%s: the row of %s is %+v, want %+v", documentation, k.Name, got, want)
		}
		delete(rows, k.Name)
	}
	for name := range rows {
		t.Errorf("%s: %s is no key", documentation, name)
	}
}
