package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// pathsView is what the lab reads of `synbond paths --json`.
type pathsView struct {
	HAG       stateView     `json:"hag"`
	Paths     []pathView    `json:"paths"`
	Transport transportView `json:"transport"`
}

type transportView struct {
	CongestionControl string `json:"congestion_control"`
	InitialWindow     int    `json:"initial_window"`
}

type stateView struct {
	State   string `json:"state"`
	Reason  string `json:"reason"`
	SinceMS int64  `json:"since_ms"`
}

type pathView struct {
	stateView
	Name     string `json:"name"`
	Use      string `json:"use"`
	Subflows int    `json:"subflows"`
}

// String says how something is: "up", or "down, no carrier".
func (v stateView) String() string {
	if v.Reason == "" {
		return v.State
	}
	return v.State + ", " + v.Reason
}

// String also says what a path is used for.
func (v pathView) String() string { return fmt.Sprintf("%s %s, %s", v.Name, v.stateView, v.Use) }

// String says how everything is.
func (v *pathsView) String() string {
	words := []string{"HAG " + v.HAG.String()}
	for _, p := range v.Paths {
		words = append(words, fmt.Sprintf("%s, %d subflows", p, p.Subflows))
	}
	return strings.Join(words, "; ")
}

// path is the path of that name. An unknown one is not up.
func (v *pathsView) path(name string) pathView {
	for _, p := range v.Paths {
		if p.Name == name {
			return p
		}
	}
	return pathView{}
}

// used tells whether a path is up and used so.
func used(path, use string) func(*pathsView) bool {
	return func(v *pathsView) bool {
		p := v.path(path)
		return p.State == "up" && p.Use == use
	}
}

// allUsed tells whether every path is up and used.
func allUsed(v *pathsView) bool {
	return len(v.Paths) > 0 && !slices.ContainsFunc(v.Paths, func(p pathView) bool { return p.State != "up" || p.Use != "normal" })
}

// down tells whether these paths are down, and no longer used.
func down(names ...string) func(*pathsView) bool {
	return func(v *pathsView) bool {
		return !slices.ContainsFunc(names, func(name string) bool {
			p := v.path(name)
			return p.State != "down" || p.Use != "closed"
		})
	}
}

// hag tells whether the CPE takes the HAG to be in a state.
func hag(is string) func(*pathsView) bool {
	return func(v *pathsView) bool { return v.HAG.State == is }
}

// change is something that is no longer as it was.
type change struct {
	text string
	ago  time.Duration // 0 if that is not known
}

// changes tells what has changed since the view was as it was, other than a
// reason by itself.
func (v *pathsView) changes(was *pathsView) (all []change) {
	note := func(text string, now, then stateView) {
		c := change{text: "CPE: " + text}
		if now.State != then.State {
			c.ago = time.Duration(now.SinceMS) * time.Millisecond
		}
		all = append(all, c)
	}
	if v.HAG.State != was.HAG.State {
		note("HAG "+v.HAG.String(), v.HAG, was.HAG)
	}
	for _, p := range v.Paths {
		if then := was.path(p.Name); then.State != p.State || then.Use != p.Use {
			note(p.String(), p.stateView, then.stateView)
		}
	}
	return all
}

// flowsView is what the lab reads of `synbond flows --all --json`.
type flowsView struct {
	Flows []flowView
}

type flowView struct {
	Client     netip.AddrPort
	Action     string
	State      string
	Reason     string
	DialedFrom netip.AddrPort `json:"dialed_from"`
}

// of is the flow of a client's connection, the zero value if there is none.
func (v *flowsView) of(client netip.AddrPort) flowView {
	for _, f := range v.Flows {
		if f.Client == client {
			return f
		}
	}
	return flowView{}
}

// dialedFrom is the address that the flow goes on from.
func (f flowView) dialedFrom() netip.Addr {
	if f.DialedFrom.IsValid() {
		return f.DialedFrom.Addr()
	}
	return f.Client.Addr()
}
