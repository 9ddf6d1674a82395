//go:build linux

package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/synbond/synbond/internal/core"
)

const (
	dslPath = "[[path]]\ninterface = \"dsl\"\n"
	ltePath = "[[path]]\ninterface = \"lte\"\n"
	dslRule = "[[rule]]\npaths = [\"dsl\"]\naction = \"relay\"\n"
)

// Each key applies at once or is named as one that needs a restart, and a second look at the
// same file finds what still needs it.
func TestReloadSortsEveryChangedKey(t *testing.T) {
	live := 0
	for _, k := range Keys() {
		if k.Name == "path" || strings.HasPrefix(k.Name, "path.") || strings.HasPrefix(k.Name, "rule.") || strings.HasPrefix(k.Name, "user.") {
			continue
		}
		before := load(t, roleOf(&k), "", nil)
		next := load(t, roleOf(&k), write(t, tomlOf(&k, sample(t, &k, 0))), nil)
		r, err := before.Reload(next)
		if err != nil {
			t.Fatal(err)
		}
		again, err := r.Settings.Reload(next)
		if err != nil || len(again.Applied) > 0 || !slices.Equal(again.Restart, r.Restart) {
			t.Errorf("%s: a second time %+v, error %v", k.Name, again, err)
		}
		if slices.Contains(liveKeys, k.Name) {
			live++
			if !slices.Equal(r.Applied, []string{k.Name}) || len(r.Restart) > 0 {
				t.Errorf("%s: %+v", k.Name, r)
			}
		} else if !slices.Equal(r.Restart, []string{k.Name}) || len(r.Applied) > 0 {
			t.Errorf("%s: %+v", k.Name, r)
		}
	}
	if live != len(liveKeys) {
		t.Errorf("%d keys apply at once, want %q", live, liveKeys)
	}
}

func TestRatesAndQuotasOfUsersApplyAtOnce(t *testing.T) {
	running := load(t, core.Gateway, "", nil)
	next := load(t, core.Gateway, write(t, "[[user]]\nname = \"alice\"\nrate = \"3mbit\"\n"), nil)
	r, err := running.Reload(next)
	if err != nil || !slices.Equal(r.Applied, []string{"user"}) || len(r.Restart) > 0 || r.Settings.Allowances().Of("alice").Rate != 3e6 {
		t.Errorf("%+v, error %v", r, err)
	}
}

func TestReloadNamesPathsByTheirName(t *testing.T) {
	running := load(t, core.CPE, write(t, dslPath+ltePath), nil)
	for _, c := range []struct {
		name, text       string
		applied, restart []string
	}{
		{"the same", dslPath + ltePath, nil, nil},
		{"a rule", dslPath + ltePath + dslRule, []string{"rule"}, nil},
		{"a path's rate, and the action", "action = \"pass\"\n" + dslPath + ltePath + "rate = \"3mbit\"\n", []string{"action"}, []string{"path lte: rate"}},
		{"paths in another order", ltePath + dslPath, nil, []string{"path dsl", "path lte"}},
	} {
		r, err := running.Reload(load(t, core.CPE, write(t, c.text), nil))
		if err != nil || !slices.Equal(r.Applied, c.applied) || !slices.Equal(r.Restart, c.restart) {
			t.Errorf("%s: %q, %q, error %v", c.name, r.Applied, r.Restart, err)
		}
	}
	r, err := running.Reload(load(t, core.CPE, write(t, dslPath), nil))
	if err != nil || !slices.Contains(r.Restart, "path lte") {
		t.Errorf("a path less: %q, error %v", r.Restart, err)
	}
}

// The paths of a running box stay; so a rule refers to these.
func TestReloadedRulesReferToTheRunningPaths(t *testing.T) {
	running := load(t, core.CPE, write(t, "end_to_end_dscp = 43\n"+dslPath+ltePath+dslRule), nil)
	for _, c := range []struct{ name, text string }{
		{"the same", "end_to_end_dscp = 43\n" + dslPath + ltePath + dslRule},
		{"paths in another order", "end_to_end_dscp = 7\n" + ltePath + dslPath + dslRule},
	} {
		r, err := running.Reload(load(t, core.CPE, write(t, c.text), nil))
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Policy.Rules[0].Subflows.Paths; got != 1 || r.Policy.EndToEnd != 43 {
			t.Errorf("%s: paths %b and DSCP %d, want 1 and 43", c.name, got, r.Policy.EndToEnd)
		}
	}
	newPath := "[[path]]\ninterface = \"sat\"\n[[rule]]\npaths = [\"sat\"]\naction = \"relay\"\n"
	if _, err := running.Reload(load(t, core.CPE, write(t, dslPath+newPath), nil)); err == nil || !strings.Contains(err.Error(), `there is no path "sat"`) {
		t.Errorf("a rule with a path that the box does not have: error %v", err)
	}
}

func TestDocumentationNamesTheKeysThatApplyAtOnce(t *testing.T) {
	text := read(t, documentation)
	at := strings.Index(text, "On SIGHUP")
	paragraph, _, _ := strings.Cut(text[max(at, 0):], "\n\n")
	for _, name := range liveKeys {
		table, _, nested := cutLast(name)
		if !strings.Contains(paragraph, "`"+name+"`") && !(nested && strings.Contains(paragraph, "`["+table+"]`")) {
			t.Errorf("%s: the paragraph about SIGHUP does not name %s", documentation, name)
		}
	}
}
