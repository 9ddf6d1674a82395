//go:build linux

package box

import (
	"net/http"
	"net/netip"
	"net/url"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/state"
)

// flowFilter is an [api.FlowFilter] for the flows of the table. What it does not select is not
// described: that takes system calls.
type flowFilter struct{ api.FlowFilter }

// newFlowFilter reads the query of a request. A mistake in it is an [*api.Error].
func newFlowFilter(q url.Values) (flowFilter, error) {
	f, err := api.ParseFlowFilter(q)
	if err == nil {
		err = f.Check(state.ReasonNames(), state.StateNames())
	}
	if err != nil {
		return flowFilter{}, &api.Error{Status: http.StatusBadRequest, Message: err.Error()}
	}
	return flowFilter{f}, nil
}

// selects reports whether the dump shows a flow.
func (f *flowFilter) selects(flow *state.Flow) bool {
	return (f.Ended() || flow.State.Live()) &&
		(f.State == "" || flow.State.String() == f.State) &&
		(f.Reason == "" || flow.Reason.String() == f.Reason) &&
		(f.Port == 0 || flow.Server().Port() == f.Port) &&
		holds(f.Client, flow.Key.Client()) && holds(f.Server, flow.Server())
}

func holds(p netip.Prefix, a netip.AddrPort) bool { return !p.IsValid() || p.Contains(a.Addr()) }
