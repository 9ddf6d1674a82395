package state

import "net/netip"

// Key is the 5-tuple of a flow (the protocol is always TCP), from the client's
// point of view. It holds no pointers: IPv4 addresses are kept as IPv4-mapped.
type Key struct {
	client, server         [16]byte
	clientPort, serverPort uint16
}

// KeyOf returns the key of the flow from client to server.
func KeyOf(client, server netip.AddrPort) Key {
	return Key{client.Addr().As16(), server.Addr().As16(), client.Port(), server.Port()}
}

// Client returns the address and port that opened the flow.
func (k Key) Client() netip.AddrPort { return addrPort(k.client, k.clientPort) }

// Server returns the address and port that the flow was opened to.
func (k Key) Server() netip.AddrPort { return addrPort(k.server, k.serverPort) }

func addrPort(a [16]byte, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(a).Unmap(), port)
}
