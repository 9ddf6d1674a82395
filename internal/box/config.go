//go:build linux

package box

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/encap"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/state"
)

// Role is the preset of a box.
type Role = core.Role

// The presets.
const (
	CPE     = core.CPE
	HAG     = core.HAG
	Gateway = core.Gateway
)

// Config of a box.
type Config struct {
	Role       Role
	Plain      []string // interfaces that face hosts without MPTCP
	Paths      []paths.Path
	Join       []netip.AddrPort // HAG: where the kernel takes joins
	Policy     *core.Policy
	Changes    <-chan Change   // of what may change while the box runs; may be nil
	Gateway    GatewayConfig   // of a gateway
	Upstream   UpstreamConfig  // of a CPE without a HAG
	Reread     <-chan struct{} // asks a gateway to read its users' file again; may be nil
	Learnt     state.LearntConfig
	OwnSource4 bool // dial IPv4 to the multipath side from the box's own address
	Probe      paths.ProbeConfig
	// Encapsulate: subflows may travel in UDP datagrams where a path refuses plain ones.
	Encapsulate bool
	// CongestionControl is that of multipath legs, "" for the kernel's default.
	CongestionControl string
	// InitialWindow is that of their subflows, in segments; 0 is the kernel's.
	InitialWindow int
	// FirstPathDown is the mode for new flows while a CPE's first path is down:
	// core.NoBox or core.OwnSource.
	FirstPathDown core.Mode
	StateDir      string // where the usage of quotas is kept
	Queue         uint16
	Control       string // path of the control socket
	Metrics       string // address of the metrics listener, "" for none
	Keepalive     time.Duration
	Table         state.Config
	Record        func() (Recorder, error) // opens what records handshakes; nil for none
	Log           *slog.Logger
}

// Change has the settings that may change while a box runs.
type Change struct {
	Policy    *core.Policy
	Table     state.Config
	Learnt    state.LearntConfig // but the lengths of prefixes
	Keepalive time.Duration
	// Allowances are those of a gateway's users.
	Allowances paths.Allowances
}

// Validate reports what is wrong with the configuration in itself.
func (c *Config) Validate() error {
	if c.Role == Gateway {
		return c.validateGateway()
	}
	var all []string
	all = append(all, c.Plain...)
	for _, p := range c.Paths {
		all = append(all, p.Interface)
	}
	switch {
	case len(c.Plain) == 0:
		return errors.New("no plain interface: name one with --plain")
	case len(c.Paths) == 0:
		return errors.New("no path: name one with --path")
	case len(c.Paths) > paths.MaxPaths:
		return fmt.Errorf("%d paths: a connection can have %d subflows at most", len(c.Paths), paths.MaxPaths)
	case c.Role == HAG && c.OwnSource4:
		return errors.New("own-source4 is for a CPE: a HAG keeps the client's address")
	case c.Role == HAG && slices.ContainsFunc(c.Policy.Rules, func(r core.Rule) bool { return r.Subflows != core.SubflowPolicy{} }):
		return errors.New("rules with paths or after are for a CPE: it opens the subflows")
	}
	if err := c.Upstream.validate(); err != nil {
		return err
	}
	if name, twice := repeated(all); twice {
		return fmt.Errorf("interface %s is named twice: it can be on one side only", name)
	}
	names := make([]string, len(c.Paths))
	for i, p := range c.Paths {
		names[i] = p.Name
	}
	if name, twice := repeated(names); twice {
		return fmt.Errorf("two paths are named %q: choose another with name=", name)
	}
	if g := &c.Gateway; g.Serves() || g.Users != "" || g.Open || len(g.Admit) > 0 || len(g.Allowances) > 0 {
		if err := c.validateGateway(); err != nil {
			return err
		}
	}
	return c.validatePaths()
}

// bondsNothing reports whether a CPE with several paths has no join address for any
// further one, so that no connection gets a further subflow.
func (c *Config) bondsNothing() bool {
	return c.Role == CPE && len(c.Upstream.Servers) == 0 && len(c.Paths) > 1 &&
		!slices.ContainsFunc(c.Paths[1:], func(p paths.Path) bool { return len(p.Join) > 0 })
}

func (c *Config) validatePaths() error {
	if c.Role == HAG && len(c.Join) == 0 {
		return errors.New("no join address: name one per address family with --join ADDR:PORT")
	}
	if err := validJoins(c.Join); err != nil {
		return err
	}
	for _, p := range c.Paths {
		if err := cmp.Or(c.fits(p), p.Validate(), validJoins(p.Join)); err != nil {
			return fmt.Errorf("path %s: %w", p.Name, err)
		}
	}
	return nil
}

// fits tells what is wrong with a path for a box of this role.
func (c *Config) fits(p paths.Path) error {
	switch {
	case c.Role != HAG:
		return nil
	case len(p.Join) > 0:
		return errors.New("join= is for a CPE; a HAG names its own join addresses with --join")
	case p.Mode != "" && p.Mode != paths.Always || p.Quota != paths.Quota{} || p.Rate > 0:
		return errors.New("modes, quotas and rates are for a CPE: it opens the subflows")
	}
	return nil
}

func validJoins(joins []netip.AddrPort) error {
	for i, j := range joins {
		if !j.IsValid() || j.Port() == 0 || j.Addr().IsUnspecified() {
			return fmt.Errorf("join address %s: an address of the HAG and a port are needed", j)
		}
		if slices.ContainsFunc(joins[:i], func(o netip.AddrPort) bool { return o.Addr().Is4() == j.Addr().Is4() }) {
			return fmt.Errorf("join address %s: there is one of this address family already", j)
		}
	}
	return nil
}

// Rules returns the nftables rules of a box that listens there. One that learns
// also sees the answers to SYNs that passed.
func (c *Config) Rules(listeners nfq.Listeners, policy *core.Policy) nfq.Rules {
	r := nfq.Rules{
		Role: string(c.Role), Plain: c.Plain, Queue: c.Queue, Listeners: listeners, QueueSYNACKs: policy.Learns(),
		Joins: slices.Clone(c.Join), AcceptJoins: c.Role == HAG,
	}
	for i, p := range c.Paths {
		if c.Role == CPE && c.Encapsulate {
			r.Joins = append(r.Joins, encap.Remote(i))
		}
		r.Paths = append(r.Paths, p.Interface)
		for _, j := range p.Join {
			if !slices.Contains(r.Joins, j) {
				r.Joins = append(r.Joins, j)
			}
		}
		if p.RejectQUIC {
			r.QUIC.Paths = append(r.QUIC.Paths, p.Interface)
		}
	}
	for _, rule := range policy.OverQUIC() {
		r.QUIC.Rules = append(r.QUIC.Rules, nfq.QUICRule{From: rule.From, To: rule.To, Then: quicThen[rule.QUIC]})
	}
	return r
}

// quicThen is what the nftables rules do for a rule of policy.
var quicThen = map[core.QUIC]nfq.QUICThen{core.QUICByPath: nfq.ByPath, core.QUICPass: nfq.PassQUIC, core.QUICReject: nfq.RejectQUIC}

func repeated(names []string) (string, bool) {
	for i, n := range names {
		if slices.Contains(names[:i], n) {
			return n, true
		}
	}
	return "", false
}
