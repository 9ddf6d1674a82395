//go:build linux

package netlab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/synbond/synbond/internal/socks"
)

// SOCKS dials from a host through a SOCKS gateway.
type SOCKS struct {
	Host    *Host
	Network string // to the gateway, as for [Host.Dial]: tcp or mptcp
	Gateway netip.AddrPort
	Login   socks.Login
	// StepByStep waits for each of the gateway's messages before it sends the next one.
	StepByStep bool
}

// Dial asks the gateway for a connection to remote: an address or a name, and a port. An
// error that the gateway replies with is a [socks.Reply].
func (s SOCKS) Dial(ctx context.Context, remote string) (net.Conn, error) {
	c, err := s.Host.Dial(ctx, s.Network, "", s.Gateway.String())
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := s.ask(c, remote); err != nil {
		c.Close()
		return nil, fmt.Errorf("ask %s for %s: %w", s.Gateway, remote, err)
	}
	return c, nil
}

// ask asks for a connection on one to the gateway.
func (s SOCKS) ask(c net.Conn, remote string) error {
	host, text, err := net.SplitHostPort(remote)
	if err != nil {
		return err
	}
	var port uint16
	if _, err := fmt.Sscan(text, &port); err != nil {
		return err
	}
	to, err := socks.NewDestination(host, port)
	if err != nil {
		return err
	}
	client, err := socks.NewClient(to, s.Login, !s.StepByStep)
	if err != nil {
		return err
	}
	out, want := client.Start(nil), socks.WantBytes
	for want == socks.WantBytes {
		if _, err := c.Write(out); err != nil {
			return err
		}
		clear(out)    // it may have the password
		var b [1]byte // what follows the messages is the caller's
		if n, err := c.Read(b[:]); n == 0 {
			return fmt.Errorf("the gateway's answer: %w", err)
		}
		out, want = client.Receive(out[:0], b[:])
	}
	return client.Err()
}

// SOCKSPort is the port of the network's gateway.
const SOCKSPort = 1080

// GatewayAt returns the address of the network's gateway for an address family.
func (n *Network) GatewayAt(is6 bool) netip.AddrPort {
	at := n.Lines[0].HAG4
	if is6 {
		at = n.Lines[0].HAG6
	}
	return netip.AddrPortFrom(at, SOCKSPort)
}

// StartGateway starts a SOCKS gateway in the place of the HAG, at its addresses on the first
// line. The CPE is then a phone, and the lines are its radios.
func (n *Network) StartGateway(p Program, dir string, flags ...string) (*Box, error) {
	all := []string{"--congestion-control", n.Multipath, "--socks", n.GatewayAt(true).String(), "--socks", n.GatewayAt(false).String()}
	return p.StartBox(n.HAG, dir, "gateway", append(all, flags...)...)
}

// phoneSubflows is the number of further subflows that a phone opens and accepts.
const phoneSubflows = 4

// BePhone has the CPE's kernel open further subflows of its own connections, over the radios
// that [Network.SwitchRadio] switches on.
func (n *Network) BePhone() error {
	limit := fmt.Sprint(phoneSubflows)
	if err := n.ipMPTCP("endpoint", "flush"); err != nil {
		return err
	}
	return n.ipMPTCP("limits", "set", "subflows", limit, "add_addr_accepted", limit)
}

// SwitchRadio has the phone use a line for further subflows, or leave it, as the programs do
// that manage a phone's networks.
func (n *Network) SwitchRadio(l *Line, on bool) error {
	for i, a := range []netip.Addr{l.CPE6, l.CPE4} {
		id := fmt.Sprint(1 + 2*n.indexOf(l) + i)
		args := []string{"endpoint", "delete", "id", id}
		if on {
			args = []string{"endpoint", "add", a.String(), "id", id, "dev", l.Name, "subflow"}
		}
		if err := n.ipMPTCP(args...); err != nil {
			return err
		}
	}
	return nil
}

func (n *Network) indexOf(l *Line) (i int) {
	for n.Lines[i] != l {
		i++
	}
	return i
}

// ipMPTCP runs ip-mptcp(8) on the phone.
func (n *Network) ipMPTCP(args ...string) error {
	cmd := n.CPE.Command("ip", append([]string{"mptcp"}, args...)...)
	if err := n.CPE.Run(cmd); err != nil {
		return fmt.Errorf("ip mptcp %v: %w", args, err)
	}
	return nil
}
