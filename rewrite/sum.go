package rewrite

// Checksum returns the Internet checksum (RFC 1071) of the concatenated parts, for
// TCP, ICMP and the IPv4 header. Every part but the last must have an even length.
func Checksum(parts ...[]byte) uint16 {
	var acc uint64
	for _, p := range parts {
		acc = addBytes(uint64(fold(acc)), p)
	}
	return ^fold(acc)
}
