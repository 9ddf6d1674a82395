//go:build linux

package cli

import (
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/synbond/synbond/internal/box"
	"github.com/synbond/synbond/nfq"
)

// rulesCommand prints the rules of a box. It needs no privilege.
func rulesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules --role cpe|hag --plain IF… --path IF…",
		Short: "print the nftables rules that a box would install",
		Args:  noArguments,
	}
	var role string
	bindRole(cmd, &role, "role of the box: cpe or hag", box.CPE, box.HAG)
	from := bindBox(cmd, "")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if role == "" {
			return usagef("--role is needed: cpe or hag")
		}
		_, cfg, err := from.load(box.Role(role))
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		fmt.Fprintln(w, "# Port 1 stands for the box's listeners, which get free ports when it starts.")
		listeners := []netip.AddrPort{
			netip.AddrPortFrom(netip.IPv6Loopback(), 1),
			netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 1),
		}
		fmt.Fprint(w, cfg.Rules(nfq.Listeners{Plain: listeners, Paths: listeners}, cfg.Policy))
		return nil
	}
	return cmd
}
