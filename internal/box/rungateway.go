//go:build linux

package box

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/relay"
)

// A gateway is a box without a queue, rules and paths: its clients connect to an address of
// the machine, and it dials from one. It needs no privilege for that. What it sets on the
// machine, if it may, lets clients have more subflows, further join addresses, and speed.

// prefaceTimeout bounds the wait for each message of a client.
const prefaceTimeout = 10 * time.Second

// prepareGateway opens everything that a gateway needs before the first client may come.
func (b *Box) prepareGateway(undo *undo) (err error) {
	if host.IsNetAdmin() {
		if err := b.installSystem(undo); err != nil {
			return err
		}
		b.widen(undo)
	} else if err := b.settle(); err != nil {
		return err
	}
	if b.machine, err = host.OpenMachine(); err != nil {
		return err
	}
	undo.add(b.machine.Close)
	b.set = paths.NewSet(b.machine, nil)
	if b.transport, err = b.cfg.transport(); err != nil {
		return err
	}
	cfg := relay.Config{
		PlainReceiveBuffer: b.plainBuffer, Keepalive: b.cfg.Keepalive, CongestionControl: b.cfg.CongestionControl,
		Events: relayEvents{b}, OwnAddresses: true,
	}
	if cfg.Explicit, err = b.openGateway(undo); err != nil {
		return err
	}
	if b.kernel.relay, err = relay.New(cfg); err != nil {
		return err
	}
	undo.add(b.kernel.relay.Close)
	b.relay = kernelRelay{b.kernel.relay}
	if host.IsNetAdmin() {
		b.guard = b.newGuard()
	}
	return nil
}

// openGateway prepares the gateway of a box, if it has one. The memory of the process is hidden
// after all that an ordinary user could not read then.
func (b *Box) openGateway(undo *undo) (e *relay.Explicit, err error) {
	if !b.cfg.Gateway.Serves() {
		return nil, nil
	}
	if err := host.HideMemory(); err != nil {
		return nil, err
	}
	if b.gateway, err = newGateway(b, undo); err != nil {
		return nil, err
	}
	return &relay.Explicit{
		Listen: b.cfg.Gateway.Listen, Preface: b.gateway.preface, Events: b.gateway,
		Timeout: prefaceTimeout, Most: b.cfg.Table.MaxHalfOpen,
	}, nil
}

// serve starts the lasting tasks of the gateway of a box, if it has one.
func (b *Box) serve(ctx context.Context, g *errgroup.Group) {
	if b.gateway == nil {
		return
	}
	g.Go(func() error { return b.countUsers(ctx) })
	if b.gateway.users != nil {
		g.Go(func() error { return b.gateway.users.Run(ctx) })
	}
}

// settle takes the machine as it is, without the privilege to change it.
func (b *Box) settle() error {
	b.cfg.Log.Info("without CAP_NET_ADMIN the machine's MPTCP settings stay as they are: net.mptcp.enabled must be 1, and `ip mptcp limits` bounds the subflows of each connection")
	b.cfg.InitialWindow = 0
	if len(b.cfg.Join) > 0 {
		return errors.New("join addresses need CAP_NET_ADMIN: run as root, or leave --join out; clients can join at the address of --socks")
	}
	return nil
}

// beginGateway is begin for a gateway.
func (b *Box) beginGateway(ctx context.Context, g *errgroup.Group, _ *undo) error {
	g.Go(func() error { return b.kernel.relay.Run(ctx) })
	g.Go(func() error { return b.machine.Watch(ctx, false) })
	g.Go(func() error { return b.expire(ctx) })
	g.Go(func() error { return b.watchStranded(ctx) })
	g.Go(func() error { return b.adopt(ctx) })
	b.serve(ctx, g)
	if b.guard != nil {
		g.Go(func() error { return b.guard.Run(ctx) })
		g.Go(func() error { return b.suspectAll(ctx) })
	}
	return nil
}

// isOwn reports whether an address is one of this machine's.
func (b *Box) isOwn(a netip.Addr) bool { return b.machine != nil && len(b.machine.Owners(a)) > 0 }

func (b *Box) gatewayAnnouncement() string {
	return fmt.Sprintf("synbond gateway ready: %s, control %s", b.cfg.Gateway.announcement(), b.cfg.Control)
}

// announcement names the listeners.
func (g *GatewayConfig) announcement() string {
	var at []string
	for _, l := range g.Listen {
		at = append(at, l.String())
	}
	return "socks " + strings.Join(at, " ")
}

// validateGateway reports what is wrong with the configuration of a gateway, or that of a HAG.
func (c *Config) validateGateway() error {
	g := &c.Gateway
	switch {
	case !g.Serves():
		return errors.New("no listener: name an address of this machine and a port with --socks ADDR:PORT")
	case g.Open && g.Users != "":
		return errors.New("--open and --users contradict each other: --admit names the clients that need no user")
	}
	for i, at := range g.Listen {
		for _, other := range g.Listen[:i] {
			if at == other {
				return fmt.Errorf("--socks %s is there twice", at)
			}
		}
		if !at.Addr().IsLoopback() && g.Users == "" && len(g.Admit) == 0 && !g.Open {
			return fmt.Errorf("--socks %s: others can reach that address: name a file with users by --users, or clients by --admit, or let everybody in with --open", at)
		}
	}
	if err := validJoins(c.Join); err != nil {
		return err
	}
	for _, j := range c.Join {
		for _, at := range g.Listen {
			if j.Port() == at.Port() && (j.Addr() == at.Addr() || at.Addr().IsUnspecified()) {
				return fmt.Errorf("--join %s is the address of --socks, where clients can join without it", j)
			}
		}
	}
	if err := g.validateAllowances(); err != nil || c.Role == HAG {
		return err
	}
	return c.Policy.CheckForGateway()
}
