package cli

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/synbond/synbond/internal/box"
	"github.com/synbond/synbond/nfq"
)

// runRules prints what a box would install. It needs no privilege.
func runRules(_ context.Context, c *invocation) error {
	role := c.flags.String("role", "", "cpe or hag")
	var s settings
	config := s.bind(c.flags, "")
	if err := c.parse(); err != nil {
		return err
	}
	if r := box.Role(*role); r != box.CPE && r != box.HAG {
		return usagef("--role %q is none of cpe, hag", *role)
	}
	cfg, err := s.config(box.Role(*role), *config, c.flags)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.stdout, "# Port 1 stands for the box's listeners, which get free ports when it starts.")
	listeners := []netip.AddrPort{
		netip.AddrPortFrom(netip.IPv6Loopback(), 1),
		netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 1),
	}
	fmt.Fprint(c.stdout, cfg.Rules(nfq.Listeners{Plain: listeners, Paths: listeners}, cfg.Policy.Learns()))
	return nil
}
