//go:build linux

package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/synbond/synbond/internal/api"
)

// pathsView is the state of a CPE's paths, with the conditions of scenarios.
type pathsView api.Paths

// stateText returns state and reason: "up", or "down, no carrier".
func stateText(state, reason string) string {
	if reason == "" {
		return state
	}
	return state + ", " + reason
}

// pathText returns the path's name, state and use.
func pathText(p api.Path) string {
	return fmt.Sprintf("%s %s, %s", p.Name, stateText(p.State, p.Reason), p.Use)
}

// String returns the states of the HAG and of all paths.
func (v *pathsView) String() string {
	words := []string{"HAG " + stateText(v.HAG.State, v.HAG.Reason)}
	for _, p := range v.Paths {
		words = append(words, fmt.Sprintf("%s, %d subflows", pathText(p), p.Subflows))
	}
	return strings.Join(words, "; ")
}

// path returns the path of that name. An unknown path is not up.
func (v *pathsView) path(name string) api.Path {
	for _, p := range v.Paths {
		if p.Name == name {
			return p
		}
	}
	return api.Path{PathState: &api.PathState{}}
}

// usedAs reports whether a path is up and has that use.
func usedAs(path, use string) func(*pathsView) bool {
	return func(v *pathsView) bool {
		p := v.path(path)
		return p.State == "up" && p.Use == use
	}
}

// allUsed reports whether every path is up and used.
func allUsed(v *pathsView) bool {
	return len(v.Paths) > 0 && !slices.ContainsFunc(v.Paths, func(p api.Path) bool { return p.State != "up" || p.Use != "normal" })
}

// pathsDown reports whether these paths are down, and closed.
func pathsDown(names ...string) func(*pathsView) bool {
	return func(v *pathsView) bool {
		return !slices.ContainsFunc(names, func(name string) bool {
			p := v.path(name)
			return p.State != "down" || p.Use != "closed"
		})
	}
}

// hagIs reports whether the CPE sees the HAG in that state.
func hagIs(is string) func(*pathsView) bool {
	return func(v *pathsView) bool { return v.HAG.State == is }
}

// change is a new state of a path or of the HAG.
type change struct {
	text string
	ago  time.Duration // 0 if unknown
}

// changes lists the changes since an earlier view. A new reason alone is no change.
func (v *pathsView) changes(was *pathsView) (all []change) {
	note := func(text string, changed bool, sinceMS int64) {
		c := change{text: "CPE: " + text}
		if changed {
			c.ago = time.Duration(sinceMS) * time.Millisecond
		}
		all = append(all, c)
	}
	if v.HAG.State != was.HAG.State {
		note("HAG "+stateText(v.HAG.State, v.HAG.Reason), true, v.HAG.SinceMS)
	}
	for _, p := range v.Paths {
		if then := was.path(p.Name); then.State != p.State || then.Use != p.Use {
			note(pathText(p), p.State != then.State, p.SinceMS)
		}
	}
	return all
}

// flowOf returns the flow of a client's connection, the zero value if there is none.
func flowOf(d *api.Dump, client netip.AddrPort) api.Flow {
	for _, f := range d.Flows {
		if f.Client == client {
			return f
		}
	}
	return api.Flow{}
}

// dialedFrom returns the source address of the flow's onward connection.
func dialedFrom(f api.Flow) netip.Addr {
	if f.DialedFrom.IsValid() {
		return f.DialedFrom.Addr()
	}
	return f.Client.Addr()
}
