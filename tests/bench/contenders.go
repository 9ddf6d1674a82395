package main

import (
	"context"
	"errors"
	"net/netip"
	"os/exec"

	"github.com/synbond/synbond/internal/netlab"
)

// contender is one way to get connections from the client to the server.
type contender struct {
	name string
	// tools it needs, by program and Debian package.
	tools map[string]string
	// multipath tells that there is MPTCP between the boxes.
	multipath bool
	start     func(context.Context, *network) (*boxes, error)
}

var contenders = []contender{
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

// network is where the contenders run in turn.
type network struct {
	*netlab.Network
	dir     string // for files and sockets
	program netlab.Program
	clients int // addresses that the client has been given
}

// buildNetwork makes one with so many lines. The caller owes it a Close.
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
	return &network{Network: n, dir: dir, program: self(partSynbond)}, nil
}

// freshClient gives the client one more address, so that no 5-tuple comes again
// while another contender's routers have it in TIME-WAIT.
func (n *network) freshClient() (netip.Addr, error) {
	n.clients++
	a := netlab.Client6.As16()
	a[12], a[13] = byte(n.clients>>8), byte(n.clients)
	addr := netip.AddrFrom16(a)
	return addr, n.Client.AddAddress(netlab.ClientInterface, netip.PrefixFrom(addr, 64))
}

// boxes are a contender's processes, the CPE's and the HAG's, or none.
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

// missing names the packages of tools that are not on this machine.
func (c *contender) missing() []string {
	var packages []string
	for tool, pkg := range c.tools {
		if _, err := exec.LookPath(tool); err != nil {
			packages = append(packages, pkg)
		}
	}
	return packages
}
