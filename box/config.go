package box

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/paths"
	"github.com/synbond/synbond/state"
)

// Role is which preset of a box this is: they differ in who opens subflows.
type Role string

const (
	CPE Role = "cpe"
	HAG Role = "hag"
)

// Config of a box.
type Config struct {
	Role       Role
	Plain      []string // interfaces that face hosts without MPTCP
	Paths      []paths.Path
	Join       []netip.AddrPort // HAG: where the kernel takes joins
	Policy     *Policy
	Policies   <-chan *Policy // policies that replace it while the box runs; may be nil
	Learnt     state.LearntConfig
	OwnSource4 bool // dial IPv4 to the multipath side from the box's own address
	Queue      uint16
	Control    string // path of the control socket
	Metrics    string // address of the metrics listener, "" for none
	Keepalive  time.Duration
	Table      state.Config
	Log        *slog.Logger
}

// Validate reports what is wrong with the configuration in itself.
func (c *Config) Validate() error {
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
	return c.validateJoins()
}

func (c *Config) validateJoins() error {
	if c.Role == HAG && len(c.Join) == 0 {
		return errors.New("no join address: name one per address family with --join ADDR:PORT")
	}
	if err := validJoins("", c.Join); err != nil {
		return err
	}
	for _, p := range c.Paths {
		if len(p.Join) > 0 && c.Role == HAG {
			return fmt.Errorf("path %s: join= is for a CPE; a HAG names its own join addresses with --join", p.Name)
		}
		if err := validJoins("path "+p.Name+": ", p.Join); err != nil {
			return err
		}
	}
	return nil
}

func validJoins(where string, joins []netip.AddrPort) error {
	for i, j := range joins {
		if !j.IsValid() || j.Port() == 0 || j.Addr().IsUnspecified() {
			return fmt.Errorf("%sjoin address %s: an address of the HAG and a port are needed", where, j)
		}
		if slices.ContainsFunc(joins[:i], func(o netip.AddrPort) bool { return o.Addr().Is4() == j.Addr().Is4() }) {
			return fmt.Errorf("%sjoin address %s: there is one of this address family already", where, j)
		}
	}
	return nil
}

// Rules returns the nftables rules of a box that listens there. One that learns
// also sees the answers to SYNs that passed.
func (c *Config) Rules(listeners []netip.AddrPort, learns bool) nfq.Rules {
	r := nfq.Rules{Role: string(c.Role), Plain: c.Plain, Queue: c.Queue, Listeners: listeners, Answers: learns}
	for _, p := range c.Paths {
		r.Paths = append(r.Paths, p.Interface)
	}
	return r
}

// interfaces checks that the machine has every interface.
func (c *Config) interfaces() error {
	names := slices.Clone(c.Plain)
	for _, p := range c.Paths {
		names = append(names, p.Interface)
	}
	for _, name := range names {
		if _, err := net.InterfaceByName(name); err != nil {
			return fmt.Errorf("interface %s: there is no such interface on this machine (see `ip link`)", name)
		}
	}
	return nil
}

func repeated(names []string) (string, bool) {
	for i, n := range names {
		if slices.Contains(names[:i], n) {
			return n, true
		}
	}
	return "", false
}
