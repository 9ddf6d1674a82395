package api

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
)

// ExplainResource has what the box would do with a SYN, see [ExplainQuery].
const ExplainResource = "/explain"

// ExplainQuery asks what a box would do with a SYN now, or a gateway with a request.
type ExplainQuery struct {
	// Client is the client; with port 0 it has a port that no flow has.
	Client netip.AddrPort
	Server netip.AddrPort
	In     string // interface by which the SYN comes in, "" for the one that leads to the client
	MPTCP  *bool  // whether the SYN has MP_CAPABLE; nil as usual for the side
	User   string // who asks, of a gateway
}

// Keys of the query.
const (
	inQuery    = "in"
	mptcpQuery = "mptcp"
	userQuery  = "user"
)

// Request returns the request for the answer, see [Client.Get].
func (q ExplainQuery) Request() string {
	v := url.Values{clientQuery: {q.Client.String()}, serverQuery: {q.Server.String()}}
	if q.In != "" {
		v.Set(inQuery, q.In)
	}
	if q.User != "" {
		v.Set(userQuery, q.User)
	}
	if q.MPTCP != nil {
		v.Set(mptcpQuery, strconv.FormatBool(*q.MPTCP))
	}
	return ExplainResource + "?" + v.Encode()
}

// ParseExplainQuery reads the query of a request.
func ParseExplainQuery(v url.Values) (q ExplainQuery, err error) {
	q.In, q.User = v.Get(inQuery), v.Get(userQuery)
	q.Client, err = optional(v, clientQuery, ParseClient)
	server, err2 := optional(v, serverQuery, ParseServer)
	q.Server = server
	if text := v.Get(mptcpQuery); text != "" {
		b, err := strconv.ParseBool(text)
		if err != nil {
			return q, fmt.Errorf("%s %q: want true or false", mptcpQuery, text)
		}
		q.MPTCP = &b
	}
	return q, cmp.Or(err, err2, q.Check())
}

// Check reports ends between which there can be no connection.
func (q ExplainQuery) Check() error {
	switch {
	case !q.Client.IsValid() || !q.Server.IsValid():
		return errors.New("want the addresses of a client and of a server")
	case q.Client.Addr().Is4() != q.Server.Addr().Is4():
		return fmt.Errorf("client %s and server %s: want two addresses of one family", q.Client.Addr(), q.Server.Addr())
	}
	return nil
}

// ParseClient reads an address, with or without a port.
func ParseClient(text string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.AddrPortFrom(a.Unmap(), 0), nil
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil || at.Addr().Zone() != "" {
		return at, errors.New("want an address such as 192.0.2.7 or 2001:db8::7, with or without a port")
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}

// ParseServer reads an address with its port.
func ParseServer(text string) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(text)
	if err != nil || at.Port() == 0 || at.Addr().Zone() != "" {
		return at, errors.New("want an address with its port, such as 203.0.113.1:443 or [2001:db8::1]:443")
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}

// Explanation tells the fate of a SYN that a box would see now, and the reasons.
type Explanation struct {
	Role   string         `json:"role"`
	Client netip.AddrPort `json:"client"`
	Server netip.AddrPort `json:"server"`
	// Taken reports whether the SYN would come to the box at all. Without that the rest is
	// empty, and the last step says why.
	Taken   bool   `json:"taken"`
	Side    string `json:"side,omitempty"`
	Action  string `json:"action,omitempty"`
	Reason  string `json:"reason"`
	Rule    string `json:"rule,omitempty"`
	Verdict string `json:"verdict,omitempty"` // accept, rewrite, hold, deliver, drop or prohibited; wait for the end of an earlier flow
	// DialedFrom is the address from which the box would dial if that is not the client's.
	DialedFrom netip.Addr    `json:"dialed_from,omitzero"`
	Steps      []ExplainStep `json:"steps"`
}

// ExplainStep is one step of a decision, in their order.
type ExplainStep struct {
	Step   string `json:"step"` // route, hook, firewall, paths, policy, learnt, dial, flow, limits or outcome
	Detail string `json:"detail"`
}
