package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/synbond/synbond/internal/core"
)

// Reload is the difference between the settings of a running box and those that its file has
// now.
type Reload struct {
	Settings *Settings    // of the box from now on
	Policy   *core.Policy // of the box from now on
	// Applied and Restart name the keys that have changed: those that apply at once, and
	// those that apply when the box starts again.
	Applied, Restart []string
}

// liveKeys may change while a box runs; so may the rules, and the rates and quotas of users.
var liveKeys = []string{
	"action", "log_level", "limits.flows", "limits.half_open", "limits.ended", "limits.user_flows",
	"timeouts.dial", "timeouts.half_open", "timeouts.keepalive", "learn.ttl", "learn.max",
}

// Reload compares the settings of a running box with next. Rules refer to the paths of the
// running box, and its marks stay.
func (s *Settings) Reload(next *Settings) (Reload, error) {
	running := *s
	running.Rules, running.Users, running.origin, running.given = next.Rules, next.Users, next.origin, next.given
	r := Reload{Settings: &running}
	if !reflect.DeepEqual(s.Users, next.Users) {
		r.Applied = append(r.Applied, "user")
	}
	if !reflect.DeepEqual(s.Rules, next.Rules) {
		r.Applied = append(r.Applied, "rule")
	}
	was, is := s.values(), next.values()
	places := maps.Clone(was)
	maps.Copy(places, is)
	for _, place := range slices.Sorted(maps.Keys(places)) {
		if reflect.DeepEqual(was[place], is[place]) {
			continue
		}
		if slices.Contains(liveKeys, place) {
			k, _ := keyOf(place) // it is in the list
			running.fieldOf(k).Set(next.fieldOf(k))
			r.Applied = append(r.Applied, place)
		} else {
			r.Restart = append(r.Restart, place)
		}
	}
	var err error
	r.Policy, err = running.Policy()
	return r, err
}

// values returns the values of all keys but the rules', by their place in the file: the keys
// of a path by its name, such as path lte: rate.
func (s *Settings) values() map[string]any {
	all := make(map[string]any)
	for i := range s.Paths {
		all[fmt.Sprintf("path %s", s.Paths[i].name())] = i // its place among the paths
	}
	for at := range fields(s) {
		place := at.path
		if strings.HasPrefix(place, "rule[") || strings.HasPrefix(place, "user[") {
			continue
		}
		var i int
		if n, _ := fmt.Sscanf(place, "path[%d]", &i); n == 1 {
			place = fmt.Sprintf("path %s: %s", s.Paths[i].name(), place[strings.Index(place, ".")+1:])
		}
		all[place] = at.value.Interface()
	}
	return all
}
