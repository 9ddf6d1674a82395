//go:build linux

package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/synbond/synbond/internal/box"
	"github.com/synbond/synbond/internal/core"
)

// smallest is a file that a box of a role accepts, with one path, whose table is last.
func smallest(role core.Role) string {
	if role == core.Gateway {
		return "gateway.socks = [\"[::1]:1080\"]\n"
	}
	text := "plain = [\"lan\"]\n"
	if role == core.HAG {
		text += "join = [\"203.0.113.1:9\"]\n"
	}
	return text
}

// withKeys returns that file with the keys set to these texts.
func withKeys(role core.Role, values map[string]string) string {
	var top, tables, path strings.Builder
	top.WriteString(smallest(role))
	if role != core.Gateway {
		path.WriteString("[[path]]\ninterface = \"dsl\"\n")
	}
	for _, k := range Keys() {
		text, given := values[k.Name]
		if !given {
			continue
		}
		value := text
		if kind := k.kind.Kind(); kind != reflect.Int && kind != reflect.Bool {
			value = fmt.Sprintf("%q", text)
		}
		table, key, nested := cutLast(k.Name)
		switch {
		case !nested:
			fmt.Fprintf(&top, "%s = %s\n", key, value)
		case table == "path":
			fmt.Fprintf(&path, "%s = %s\n", key, value)
		default:
			fmt.Fprintf(&tables, "%s.%s = %s\n", table, key, value)
		}
	}
	return top.String() + tables.String() + path.String()
}

// A documented default changes nothing when a file names it: by itself, with the others,
// and with a quota of each period.
func TestDocumentedDefaultsAreAccepted(t *testing.T) {
	rows := documented(t)
	for _, role := range core.Roles {
		want := accepted(t, role, withKeys(role, nil))
		all := map[string]string{}
		for _, k := range Keys() {
			text := rows[k.Name].byDefault
			if text == "" || !k.isFor(role) || strings.HasPrefix(k.Name, "user.") { // a user has no table by default
				continue
			}
			all[k.Name] = text
			if got := accepted(t, role, withKeys(role, map[string]string{k.Name: text})); !reflect.DeepEqual(got, want) {
				t.Errorf("%s with %s = %s: %+v, want %+v", role, k.Name, text, got, want)
			}
		}
		if len(all) < 10 {
			t.Errorf("%s has %d documented defaults", role, len(all))
		}
		if got := accepted(t, role, withKeys(role, all)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s with all defaults: %+v, want %+v", role, got, want)
		}
	}
	for _, period := range []string{"day", "week", "month"} {
		quota := map[string]string{"path.quota": "10GB", "path.quota_period": period}
		want := accepted(t, core.CPE, withKeys(core.CPE, quota))
		quota["path.quota_start"] = rows["path.quota_start"].byDefault
		if got := accepted(t, core.CPE, withKeys(core.CPE, quota)); !reflect.DeepEqual(got, want) {
			t.Errorf("quota per %s with the default start: %+v, want %+v", period, got, want)
		}
	}
}

// accepted returns the configuration of a box with that file.
func accepted(t *testing.T, role core.Role, text string) box.Config {
	t.Helper()
	cfg, err := load(t, role, write(t, text), nil).Box(role)
	if err == nil {
		err = cfg.Validate()
	}
	if err != nil {
		t.Fatalf("%s:\n%s%v", role, text, err)
	}
	return cfg
}
