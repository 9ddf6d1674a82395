package api

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// FlowFilter selects the flows of a dump. The zero FlowFilter selects the live ones.
type FlowFilter struct {
	// All also selects flows that ended lately, and has the dump list what was learnt.
	All bool
	// Client and Server are prefixes of the addresses; the zero Prefix selects all.
	Client, Server netip.Prefix
	Port           uint16 // of the server, 0 for all
	// Reason and State are as in [Flow]; "" selects all. With one of them, ended flows are
	// selected too: most reasons and states are those of an end.
	Reason, State string
}

// Keys of the filter in a query, beside [AllQuery].
const (
	clientQuery = "client"
	serverQuery = "server"
	portQuery   = "port"
	reasonQuery = "reason"
	stateQuery  = "state"
)

// Ended reports whether the filter also selects flows that have ended.
func (f FlowFilter) Ended() bool { return f.All || f.Reason != "" || f.State != "" }

// Request returns the request for the flows that the filter selects, see [Client.Get].
func (f FlowFilter) Request() string {
	var query []string
	add := func(key, value string) { query = append(query, key+"="+url.QueryEscape(value)) }
	if f.All {
		query = append(query, AllQuery)
	}
	if f.Client.IsValid() {
		add(clientQuery, f.Client.String())
	}
	if f.Server.IsValid() {
		add(serverQuery, f.Server.String())
	}
	if f.Port != 0 {
		add(portQuery, strconv.Itoa(int(f.Port)))
	}
	if f.Reason != "" {
		add(reasonQuery, f.Reason)
	}
	if f.State != "" {
		add(stateQuery, f.State)
	}
	if query == nil {
		return FlowsResource
	}
	return FlowsResource + "?" + strings.Join(query, "&")
}

// Check reports a reason or a state that is not among the names.
func (f FlowFilter) Check(reasons, states []string) error {
	return cmp.Or(oneOf("reason", f.Reason, reasons), oneOf("state", f.State, states))
}

func oneOf(what, word string, names []string) error {
	if word == "" || slices.Contains(names, word) {
		return nil
	}
	return fmt.Errorf("%s %q: want one of %s", what, word, strings.Join(names, ", "))
}

// ParseFlowFilter reads the query of a request for flows. It does not know which reasons
// and states there are.
func ParseFlowFilter(q url.Values) (f FlowFilter, err error) {
	known := []string{AllQuery, clientQuery, serverQuery, portQuery, reasonQuery, stateQuery}
	for key := range q {
		if !slices.Contains(known, key) {
			return f, fmt.Errorf("query %s: want any of %s", key, strings.Join(known, ", "))
		}
	}
	f.All, f.Reason, f.State = q.Has(AllQuery), q.Get(reasonQuery), q.Get(stateQuery)
	f.Client, err = optional(q, clientQuery, ParsePrefix)
	server, err2 := optional(q, serverQuery, ParsePrefix)
	port, err3 := optional(q, portQuery, ParsePort)
	f.Server, f.Port = server, port
	return f, cmp.Or(err, err2, err3)
}

// optional reads a value of a query that may be absent.
func optional[T any](q url.Values, key string, parse func(string) (T, error)) (v T, err error) {
	if text := q.Get(key); text != "" {
		if v, err = parse(text); err != nil {
			return v, fmt.Errorf("%s %q: %w", key, text, err)
		}
	}
	return v, nil
}

// ParsePrefix reads a prefix, or an address as the prefix that holds it alone. Addresses of
// IPv4 in the form of IPv6 (RFC 4291, section 2.5.5.2) are taken as those of IPv4.
func ParsePrefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, errors.New("want a prefix such as 192.0.2.0/24 or 2001:db8::/32, or an address")
	}
	if mapped := p.Bits() - 96; p.Addr().Is4In6() && mapped >= 0 {
		p = netip.PrefixFrom(p.Addr().Unmap(), mapped)
	}
	return p.Masked(), nil
}

// ParsePort reads a port.
func ParsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("want a port from 1 to 65535")
	}
	return uint16(n), nil
}
