package rewrite

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
)

// Token returns the token that identifies a connection in MP_JOIN, from the key of
// the receiver of the MP_JOIN: the leftmost 32 bits of the key's hash, which is SHA-1
// in version 0 (RFC 6824, section 3.2) and SHA-256 from version 1 on (RFC 8684,
// section 3.2).
func Token(key uint64, version uint8) uint32 {
	token, _ := hashKey(key, version)
	return token
}

// IDSN returns the initial data sequence number of the host with that key: the
// rightmost 64 bits of the same hash as for [Token] (RFC 6824 and RFC 8684, section
// 3.1). The first byte of data has the number IDSN+1.
func IDSN(key uint64, version uint8) uint64 {
	_, idsn := hashKey(key, version)
	return idsn
}

func hashKey(key uint64, version uint8) (token uint32, idsn uint64) {
	var k [8]byte
	binary.BigEndian.PutUint64(k[:], key)
	if version == 0 {
		sum := sha1.Sum(k[:])
		return binary.BigEndian.Uint32(sum[:]), binary.BigEndian.Uint64(sum[sha1.Size-8:])
	}
	sum := sha256.Sum256(k[:])
	return binary.BigEndian.Uint32(sum[:]), binary.BigEndian.Uint64(sum[sha256.Size-8:])
}
