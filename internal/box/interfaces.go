//go:build linux

package box

import (
	"fmt"
	"net"
	"slices"

	"github.com/synbond/synbond/internal/host"
)

// interfaceNames returns the names of all interfaces of the box.
func (c *Config) interfaceNames() []string {
	names := slices.Clone(c.Plain)
	for _, p := range c.Paths {
		names = append(names, p.Interface)
	}
	return names
}

// resolve replaces alternative names of interfaces (ip-link(8), altname): rules know only the
// other one.
func (c *Config) resolve() {
	c.Plain, c.Paths = slices.Clone(c.Plain), slices.Clone(c.Paths)
	for i, name := range c.Plain {
		c.Plain[i] = host.InterfaceName(name)
	}
	for i, p := range c.Paths {
		c.Paths[i].Interface = host.InterfaceName(p.Interface)
	}
}

// interfaces returns an error if the machine has no plain interface of the configuration, or
// none of a path: a name is wrong then. Others may come later, as those of PPP and of modems do.
func (c *Config) interfaces() error {
	all := c.interfaceNames()
	for _, side := range [][]string{all[:len(c.Plain)], all[len(c.Plain):]} {
		if !slices.ContainsFunc(side, exists) {
			return fmt.Errorf("interface %s: there is no such interface on this machine (see `ip link`)", side[0])
		}
	}
	return nil
}

func exists(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}
