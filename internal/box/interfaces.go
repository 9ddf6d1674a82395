//go:build linux

package box

import (
	"fmt"
	"net"
	"slices"
)

// interfaceNames returns the names of all interfaces of the box.
func (c *Config) interfaceNames() []string {
	names := slices.Clone(c.Plain)
	for _, p := range c.Paths {
		names = append(names, p.Interface)
	}
	return names
}

// interfaces returns an error if the machine has no plain interface of the configuration.
// Others may come later, as those of PPP and of modems do.
func (c *Config) interfaces() error {
	for _, name := range c.Plain {
		if _, err := net.InterfaceByName(name); err == nil {
			return nil
		}
	}
	return fmt.Errorf("interface %s: there is no such interface on this machine (see `ip link`)", c.Plain[0])
}
