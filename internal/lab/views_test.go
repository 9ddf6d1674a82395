//go:build linux

package lab

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/api"
)

// views are successive answers of a CPE, with the changes in each.
var views = []struct {
	answer string
	want   []change
}{
	{`{"hag": {"state": "up"}, "paths": [{"name": "dsl", "state": "up", "use": "normal", "subflows": 3}, {"name": "lte", "state": "up", "use": "backup"}]}`, nil},
	{`{"hag": {"state": "up"}, "paths": [{"name": "dsl", "state": "down", "reason": "no carrier", "since_ms": 30, "use": "closed"}, {"name": "lte", "state": "up", "use": "normal", "since_ms": 5000}]}`, []change{
		{"CPE: dsl down, no carrier, closed", 30 * time.Millisecond},
		{"CPE: lte up, normal", 0},
	}},
	{`{"hag": {"state": "down", "reason": "refused", "since_ms": 12}, "paths": [{"name": "dsl", "state": "down", "reason": "silent", "since_ms": 130, "use": "closed"}, {"name": "lte", "state": "up", "use": "normal", "since_ms": 5100}]}`, []change{
		{"CPE: HAG down, refused", 12 * time.Millisecond},
	}},
}

func TestChangesListNewStatesOfPathsAndHAG(t *testing.T) {
	var was *pathsView
	for i, tt := range views {
		now := &pathsView{}
		if err := json.Unmarshal([]byte(tt.answer), now); err != nil {
			t.Fatal(err)
		}
		if was != nil {
			if got := now.changes(was); !slices.Equal(got, tt.want) {
				t.Errorf("answer %d: %v, want %v", i, got, tt.want)
			}
		}
		was = now
	}
}

func TestFlowWithoutDialedFromIsDialedFromTheClient(t *testing.T) {
	var v api.Dump
	err := json.Unmarshal([]byte(`{"flows": [
		{"client": "[2001:db8:1::2]:1000", "action": "relay", "dialed_from": "[2001:db8:11:1::2]:2000"},
		{"client": "[2001:db8:1::2]:1001", "action": "pass"}]}`), &v)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"2001:db8:11:1::2", "2001:db8:1::2"} {
		if got := dialedFrom(flowOf(&v, v.Flows[i].Client)); got.String() != want {
			t.Errorf("flow %d is from %v, want %s", i, got, want)
		}
	}
}
