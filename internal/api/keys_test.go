package api

import (
	"encoding/json"
	"net/netip"
	"testing"
)

// The keys and the form of values without content are a contract with scripts.
func TestJSONHasTheKeysOfTheContract(t *testing.T) {
	for _, c := range []struct {
		name string
		v    any
		want string
	}{
		{
			"a flow", Flow{Subflows: []Subflow{{}}},
			`{"client":"","server":"","side":"","action":"","state":"","reason":"","age_ms":0,"setup_us":0,"mptcp":false,` +
				`"token":0,"bytes_up":0,"bytes_down":0,"subflows":[{"path":"","local":"","remote":"","backup":false,"rtt_us":0,` +
				`"bytes_sent":0,"bytes_received":0,"retransmitted":0}]}`,
		},
		{
			"a flow with all", Flow{DialedFrom: netip.MustParseAddrPort("192.0.2.1:7"), Recording: "a"},
			`{"client":"","server":"","side":"","action":"","state":"","reason":"","age_ms":0,"setup_us":0,"mptcp":false,` +
				`"token":0,"dialed_from":"192.0.2.1:7","bytes_up":0,"bytes_down":0,"subflows":null,"recording":"a"}`,
		},
		{
			"totals", Totals{Recording: &RecordingTotals{}},
			`{"uptime_ms":0,"live":null,"entered":null,"reasons":null,"rules":null,"learnt":0,"translated":0,"bytes_up":0,"bytes_down":0,` +
				`"subflows":{"open":0,"opened":0,"failed":0,"lost":0,"closed":0},` +
				`"queue":{"waiting":0,"dropped":0,"user_dropped":0,"errors":0,"stray":0},` +
				`"recording":{"packets":0,"dropped":0,"file":""}}`,
		},
		{
			"a HAG's paths", Paths{Role: "hag", Paths: []Path{{Name: "dsl", Interface: "dsl0"}}, Peers: []Peer{{Paths: []PeerPath{{}}}}},
			`{"role":"hag","transport":{"congestion_control":"","initial_window":0,"receive_buffer":[0,0,0],"send_buffer":[0,0,0]},` +
				`"paths":[{"name":"dsl","interface":"dsl0"}],` +
				`"peers":[{"box":"","heard_ms":0,"paths":[{"index":0,"address":"","heard_ms":0,"state":"","further_window":0}]}]}`,
		},
		{
			"a CPE's path", Path{PathState: &PathState{Quota: &Quota{}}},
			`{"name":"","interface":"","state":"","reason":"","since_ms":0,"mode":"","use":"","address4":"","address6":"","join":null,"seen4":"","seen6":"","largest_packet4":0,"largest_packet6":0,` +
				`"subflows":0,"rate_up":0,"rate_down":0,"rtt_us":0,"loss":0,"bytes_up":0,"bytes_down":0,"probed":false,` +
				`"further_window4":0,"further_window6":0,"quota":{"limit":0,"used":0,"until":"0001-01-01T00:00:00Z"}}`,
		},
		{"a HAG", HAG{}, `{"state":"","reason":"","since_ms":0,"instance":""}`},
		{"an error", Error{404, "no such resource"}, `{"error":"no such resource"}`},
	} {
		b, err := json.Marshal(c.v)
		if err != nil || string(b) != c.want {
			t.Errorf("%s: error %v\n got %s\nwant %s", c.name, err, b, c.want)
		}
	}
}
