// Package nl is the netlink code that several packages share: attributes written and
// read in place, and subscriptions to multicast groups.
//
// Package github.com/mdlayher/netlink owns the sockets. Its attribute encoder
// allocates for each message, which is too slow for requests and events that come
// by the thousand when a path fails; the functions here append to the caller's
// buffer and return slices of it.
//
// Source: uapi linux/netlink.h.
package nl
