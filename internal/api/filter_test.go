package api

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func TestFilterComesThroughTheRequest(t *testing.T) {
	for request, f := range map[string]FlowFilter{
		"/flows":                {},
		"/flows?all":            {All: true},
		"/flows?state=refused":  {State: "refused"},
		"/flows?all&reason=fin": {All: true, Reason: "fin"},
		"/flows?client=2001%3Adb8%3A%3A%2F32&server=203.0.113.7%2F32&port=443": {
			Client: netip.MustParsePrefix("2001:db8::/32"), Server: netip.MustParsePrefix("203.0.113.7/32"), Port: 443,
		},
	} {
		if got := f.Request(); got != request {
			t.Errorf("%+v: request %s, want %s", f, got, request)
		}
		u, err := url.Parse(request)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseFlowFilter(u.Query()); err != nil || got != f {
			t.Errorf("%s: %+v, error %v", request, got, err)
		}
		if ended := f.All || f.State != "" || f.Reason != ""; f.Ended() != ended {
			t.Errorf("%s selects ended flows: %v", request, f.Ended())
		}
	}
}

func TestPrefixesInAnyFormSelectTheSameFlows(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "192.0.2.7/24": "192.0.2.0/24", "0.0.0.0/0": "0.0.0.0/0",
		"::ffff:192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7/120": "192.0.2.0/24", "::ffff:0:0/96": "0.0.0.0/0",
		"2001:db8::7/32": "2001:db8::/32", "::/0": "::/0", "::ffff:0:0/95": "::fffe:0:0/95",
	} {
		if got, err := ParsePrefix(text); err != nil || got != netip.MustParsePrefix(want) {
			t.Errorf("%s: %v, error %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"fe80::1%eth0", "fe80::1%eth0/64", "192.0.2.0/33", "", "home"} {
		if got, err := ParsePrefix(text); err == nil {
			t.Errorf("%q: %v, want an error", text, got)
		}
	}
}

func TestMistakesInAFilterNameThePermittedValues(t *testing.T) {
	for query, want := range map[string]string{
		"clients=1":     "query clients: want any of all, client, server",
		"client=home":   `client "home": want a prefix such as`,
		"server=::/129": `server "::/129": want a prefix`,
		"port=0":        `port "0": want a port from 1 to 65535`,
		"port=65536":    `port "65536": want a port`,
		"reason=luck":   `reason "luck": want one of fin, reset`,
		"state=open":    `state "open": want one of relaying`,
	} {
		q, _ := url.ParseQuery(query) // as net/http does, which keeps what it understands
		f, err := ParseFlowFilter(q)
		if err == nil {
			err = f.Check([]string{"fin", "reset"}, []string{"relaying"})
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", query, err, want)
		}
	}
}
