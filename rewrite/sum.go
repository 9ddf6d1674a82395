package rewrite

// Checksum is the Internet checksum (RFC 1071) of all parts in a row, as TCP,
// ICMP and the IPv4 header have it. Each part but the last has an even length.
func Checksum(parts ...[]byte) uint16 {
	var acc uint64
	for _, p := range parts {
		acc = addBytes(uint64(fold(acc)), p)
	}
	return ^fold(acc)
}
