//go:build linux

package main

import (
	"context"
	"errors"
	"net/netip"
	"os/exec"

	"github.com/synbond/synbond/internal/netlab"
)

// system is a system under test: one way to carry connections between client and server.
type system struct {
	name string
	// tools are the programs that it needs, with their Debian packages.
	tools map[string]string
	// multipath means that there is MPTCP between the boxes.
	multipath bool
	start     func(context.Context, *network) (*boxes, error)
}

var systems = []system{
	{
		name:  "forwarding",
		start: func(context.Context, *network) (*boxes, error) { return &boxes{}, nil },
	},
	{
		name: "haproxy",
		tools: map[string]string{
			"haproxy": "haproxy", "mptcpize": "mptcpize", "nft": "nftables", "ip": "iproute2",
		},
		multipath: true,
		start:     startHAProxy,
	},
	{
		name:      "synbond",
		multipath: true,
		start:     startSynbond,
	},
}

// before is another synbond, such as that of the commit before, in the same run.
func before(program string) system {
	return system{name: "before", multipath: true, start: func(ctx context.Context, n *network) (*boxes, error) {
		other := *n
		other.program = netlab.Program{Path: program}
		return startSynbond(ctx, &other)
	}}
}

// network is the network on which the systems run in turn.
type network struct {
	*netlab.Network
	dir     string // for files and sockets
	program netlab.Program
	clients int // addresses that the client has been given
}

// buildNetwork makes a network with one or two lines. The caller owes it a Close.
func buildNetwork(lines int, dir string) (*network, error) {
	var t netlab.Topology
	for _, name := range []string{"dsl", "lte"}[:lines] {
		t.Lines = append(t.Lines, netlab.LineConfig{Name: name})
	}
	n, err := netlab.Build(t)
	if err != nil {
		return nil, err
	}
	if err := n.Client.Sysctl("net.ipv4.ip_local_port_range", "1024 65535"); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return &network{Network: n, dir: dir, program: self(roleSynbond)}, nil
}

// freshClient gives the client one more address, so that no 5-tuple is used again
// while another system's sockets have it in TIME-WAIT.
func (n *network) freshClient() (netip.Addr, error) {
	n.clients++
	a := netlab.Client6.As16()
	a[12], a[13] = byte(n.clients>>8), byte(n.clients)
	addr := netip.AddrFrom16(a)
	return addr, n.Client.AddAddress(netlab.ClientInterface, netip.PrefixFrom(addr, 64))
}

// boxes are the processes of a system on CPE and HAG, if it has any.
type boxes struct {
	pids []int
	stop func() error
}

func (b *boxes) close() error {
	if b.stop == nil {
		return nil
	}
	return b.stop()
}

func startSynbond(_ context.Context, n *network) (*boxes, error) {
	cpe, hag, err := n.StartPair(n.program, n.dir)
	if err != nil {
		return nil, err
	}
	return &boxes{
		pids: []int{cpe.PID(), hag.PID()},
		stop: func() error { return errors.Join(cpe.Stop(), hag.Stop()) },
	}, nil
}

// missing returns the packages of tools that this machine lacks.
func (c *system) missing() []string {
	var packages []string
	for tool, pkg := range c.tools {
		if _, err := exec.LookPath(tool); err != nil {
			packages = append(packages, pkg)
		}
	}
	return packages
}
