//go:build linux

package config

import (
	"fmt"

	"github.com/synbond/synbond/internal/box"
	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/paths"
)

// Box returns the configuration of a box. [box.Config.Validate] checks whether its
// parts fit together.
func (s *Settings) Box(role core.Role) (box.Config, error) {
	cfg := box.Config{
		Role: role, Plain: s.Plain, Join: addrPorts(s.Join), OwnSource4: s.OwnSource4, Queue: uint16(s.Queue),
		Control: s.Control, Metrics: s.Metrics, Keepalive: s.Timeouts.Keepalive.Duration,
		Learnt: s.Learnt(), Table: s.Table(), Probe: s.Probe.config(), StateDir: s.StateDir,
		CongestionControl: s.CongestionControl, InitialWindow: s.InitialWindow,
		FirstPathDown: box.FirstPathDownModes[s.FirstPathDown], Encapsulate: s.Encapsulation == "auto",
		Gateway: s.Gateway.config(s.Allowances()), Upstream: s.Upstream.config(),
	}
	var err error
	if cfg.Policy, err = s.Policy(); err != nil {
		return box.Config{}, err
	}
	if cfg.Paths, err = s.paths(); err != nil {
		return box.Config{}, err
	}
	if err := s.checkUsers(); err != nil {
		return box.Config{}, err
	}
	return cfg, nil
}

func (g *Gateway) config(all paths.Allowances) box.GatewayConfig {
	return box.GatewayConfig{Listen: addrPorts(g.Socks), Users: g.Users, Admit: prefixes(g.Admit), Open: g.Open, Allowances: all}
}

// Allowances returns the rates and quotas of users.
func (s *Settings) Allowances() (all paths.Allowances) {
	for _, u := range s.Users {
		all = append(all, paths.Allowance{User: u.Name, Rate: uint64(u.Rate), Quota: quota(u.Quota, u.QuotaPeriod, u.QuotaStart)})
	}
	return all
}

// checkUsers reports a rate or quota of a user that is wrong.
func (s *Settings) checkUsers() error {
	all := s.Allowances()
	for i := range all {
		if err := all[:i+1].Validate(); err != nil {
			return s.mistake(fmt.Sprintf("user[%d]", i), err)
		}
	}
	return nil
}

// quota returns the quota with these keys.
func quota(bytes Size, period string, start int) paths.Quota {
	if bytes == 0 {
		return paths.Quota{}
	}
	q := paths.Quota{Bytes: uint64(bytes), Period: paths.Period(period), Start: start}
	if q.Period == paths.Day && start == 1 {
		q.Start = 0 // the default: a period of a day begins on any
	}
	return q
}

func (u *Upstream) config() box.UpstreamConfig {
	out := box.UpstreamConfig{PasswordFile: u.PasswordFile, Fastest: u.Order == "fastest", Reject: u.Down == "reject"}
	for _, s := range u.Servers {
		out.Servers = append(out.Servers, box.UpstreamServer(s))
	}
	return out
}

func (p *Probe) config() paths.ProbeConfig {
	return paths.ProbeConfig{
		Every: p.Every.Duration, Idle: p.Idle.Duration, Silence: p.Silence.Duration, Hold: p.Hold.Duration,
		Secret: p.Secret, Off: p.Off,
	}
}

// paths returns the paths of the box.
func (s *Settings) paths() ([]paths.Path, error) {
	var all []paths.Path
	for i := range s.Paths {
		p := s.Paths[i].path()
		if err := p.Validate(); err != nil {
			return nil, s.mistake(fmt.Sprintf("path[%d]", i), fmt.Errorf("path %s: %w", p.Name, err))
		}
		all = append(all, p)
	}
	return all, nil
}

func (p *Path) path() paths.Path {
	return paths.Path{
		Name: p.name(), Interface: p.Interface, Mode: paths.Mode(p.Mode), Rate: uint64(p.Rate), Join: addrPorts(p.Join),
		Keepalive: p.Keepalive.Duration, RejectQUIC: p.QUIC == "reject",
		Quota: quota(p.Quota, p.QuotaPeriod, p.QuotaStart),
		Busy:  paths.Busy{Rate: uint64(p.BusyRate), For: p.BusyFor.Duration, Idle: p.IdleFor.Duration},
	}
}
