//go:build linux

package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/synbond/synbond/internal/core"
)

// write creates a configuration file.
func write(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "box.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// sample returns one of two permitted values of a key, as text. Neither is the
// default.
func sample(t *testing.T, k *Key, i int) string {
	t.Helper()
	kind := k.kind
	if kind.Kind() == reflect.Slice {
		kind = kind.Elem()
	}
	if k.OneOf != nil {
		return k.OneOf[len(k.OneOf)-1-i] // the default, if any, is the first
	}
	if k.format == isListener {
		return []string{"[::1]:3", "127.0.0.1:4"}[i]
	}
	switch kind {
	case reflect.TypeFor[Path]():
		return []string{"if0,name=a", "if1,name=b"}[i]
	case reflect.TypeFor[bool](), reflect.TypeFor[*bool]():
		return []string{"true", "false"}[i]
	case reflect.TypeFor[int]():
		low, _ := k.bounds()
		return strconv.Itoa(max(low, 2) + 3 + i)
	case reflect.TypeFor[string]():
		return []string{"one", "two"}[i]
	case reflect.TypeFor[Duration]():
		return []string{"300ms", "400ms"}[i]
	case reflect.TypeFor[Rate]():
		return []string{"3mbit", "4mbit"}[i]
	case reflect.TypeFor[Size]():
		return []string{"3MB", "4MB"}[i]
	case reflect.TypeFor[Address]():
		return []string{"203.0.113.1:3", "[2001:db8::1]:4"}[i]
	case reflect.TypeFor[Prefix]():
		return []string{"203.0.113.0/24", "2001:db8::/32"}[i]
	case reflect.TypeFor[Server]():
		return []string{"socks5://alice@gw.example:1080", "socks5://[2001:db8::1]:1081"}[i]
	case reflect.TypeFor[Ports]():
		return []string{"443", "8000-8999"}[i]
	case reflect.TypeFor[Level]():
		return []string{"debug", "error"}[i]
	}
	t.Fatalf("no sample of %s for %s", kind, k.Name)
	return ""
}

// tomlOf returns a file that gives a key a value.
func tomlOf(k *Key, text string) string {
	value := strconv.Quote(text)
	switch k.kind.Kind() {
	case reflect.Slice:
		value = "[" + value + "]"
	case reflect.Int, reflect.Bool, reflect.Pointer:
		value = text
	}
	table, key, nested := cutLast(k.Name)
	switch {
	case isTables(k.kind):
		iface, name, _ := strings.Cut(text, ",name=")
		return fmt.Sprintf("[[%s]]\ninterface = %q\nname = %q\n", k.Name, iface, name)
	case !nested:
		return fmt.Sprintf("%s = %s\n", key, value)
	case isTables(tables[table]):
		given := fmt.Sprintf("[[%s]]\n%s = %s\n", table, key, value)
		for _, r := range keys {
			if at, other, _ := cutLast(r.Name); at == table && r.required && other != key {
				given += fmt.Sprintf("%s = %q\n", other, append(r.OneOf, "if0")[0])
			}
		}
		if strings.HasPrefix(key, "quota_") {
			given += "quota = \"1GB\"\n"
		}
		return given
	}
	return fmt.Sprintf("[%s]\n%s = %s\n", table, key, value)
}

// cutLast parts a.b.c into a.b and c.
func cutLast(name string) (table, key string, nested bool) {
	i := strings.LastIndex(name, ".")
	if i < 0 {
		return "", name, false
	}
	return name[:i], name[i+1:], true
}

// roleOf is a role that has the key.
func roleOf(k *Key) core.Role {
	if k.Roles != nil {
		return k.Roles[0]
	}
	return core.CPE
}

// valueOf is the value of a key, of the first entry in an array of tables.
func valueOf(t *testing.T, s *Settings, k *Key) any {
	t.Helper()
	if isTables(k.kind) {
		return s.Paths
	}
	for at := range fields(s) {
		if at.key.Name == k.Name {
			return at.value.Interface()
		}
	}
	t.Fatalf("there is no %s", k.Name)
	return nil
}

// wanted is the value of a key that is given by that text.
func wanted(t *testing.T, k *Key, text string) any {
	t.Helper()
	v := reflect.New(k.kind).Elem()
	switch {
	case isTables(k.kind):
		iface, name, _ := strings.Cut(text, ",name=")
		s := Settings{Paths: []Path{{Interface: iface, Name: name}}}
		s.complete()
		return s.Paths
	case v.Kind() == reflect.Pointer:
		return new(text == "true")
	}
	if err := k.set(v, text); err != nil {
		t.Fatalf("%s %q: %v", k.Name, text, err)
	}
	return v.Interface()
}
