package rewrite

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
)

// Join holds the input of an HMAC in the MP_JOIN handshake, which authenticates a
// new subflow (RFC 6824 and RFC 8684, section 3.2). The sender is the host that
// sends the HMAC.
type Join struct {
	Version                    uint8  // of the connection: 0 uses HMAC-SHA1, 1 and above HMAC-SHA256
	SenderKey, ReceiverKey     uint64 // of the connection, from MP_CAPABLE
	SenderNonce, ReceiverNonce uint32 // of the MP_JOIN handshake
}

// HMAC returns the HMAC for [MPJoinACK]: the leftmost 160 bits of the HMAC over both
// nonces with both keys, those of the sender first.
func (j Join) HMAC() [20]byte {
	var nonces [8]byte
	binary.BigEndian.PutUint32(nonces[:], j.SenderNonce)
	binary.BigEndian.PutUint32(nonces[4:], j.ReceiverNonce)
	key := keyPair(j.SenderKey, j.ReceiverKey)
	if j.Version == 0 {
		return hmacSHA1(key, nonces[:])
	}
	sum := hmacSHA256(key, nonces[:])
	return [20]byte(sum[:])
}

// TruncatedHMAC returns the HMAC for [MPJoinSYNACK]: the leftmost 64 bits.
func (j Join) TruncatedHMAC() uint64 {
	sum := j.HMAC()
	return binary.BigEndian.Uint64(sum[:])
}

// VerifySYNACK reports whether the sender of m knows both keys, in constant time.
// SenderNonce must equal the nonce of m.
func (j Join) VerifySYNACK(m MPJoinSYNACK) bool { return sameHMAC(j.TruncatedHMAC(), m.HMAC) }

// VerifyACK reports whether the sender of m knows both keys, in constant time.
func (j Join) VerifyACK(m MPJoinACK) bool {
	sum := j.HMAC()
	return subtle.ConstantTimeCompare(sum[:], m.HMAC[:]) == 1
}

// MakeHMAC returns the HMAC for ADD_ADDR of version 1: the rightmost 64 bits of the
// HMAC-SHA256 over identifier, address and port with both keys, the sender's key
// first (RFC 8684, section 3.4.1). An absent port counts as 0.
func (a AddAddr) MakeHMAC(senderKey, receiverKey uint64) uint64 {
	var scratch [hmacMaximumMessage]byte
	message := a.appendAddress(append(scratch[:0], a.AddressID))
	port := a.Port
	if !a.HasPort {
		port = 0
	}
	sum := hmacSHA256(keyPair(senderKey, receiverKey), binary.BigEndian.AppendUint16(message, port))
	return binary.BigEndian.Uint64(sum[sha256.Size-8:])
}

// Verify reports whether the sender of a knows both keys, in constant time. An echo,
// and an ADD_ADDR of version 0, has no HMAC: false.
func (a AddAddr) Verify(senderKey, receiverKey uint64) bool {
	return a.hasHMAC() && sameHMAC(a.MakeHMAC(senderKey, receiverKey), a.HMAC)
}

func sameHMAC(a, b uint64) bool {
	var x, y [8]byte
	binary.BigEndian.PutUint64(x[:], a)
	binary.BigEndian.PutUint64(y[:], b)
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

func keyPair(first, second uint64) (pair [16]byte) {
	binary.BigEndian.PutUint64(pair[:], first)
	binary.BigEndian.PutUint64(pair[8:], second)
	return pair
}

// HMAC (RFC 2104) without crypto/hmac, which keeps its state on the heap. The keys
// and messages of MPTCP are short enough for the stack.

const (
	hmacBlock = 64 // of SHA-1 and of SHA-256
	// hmacMaximumMessage is the size of the message of ADD_ADDR: identifier, IPv6
	// address, port.
	hmacMaximumMessage = 1 + 16 + 2

	innerPad, outerPad = 0x36, 0x5c
)

// pad returns the key, filled up to one block, exclusive-or the pad byte.
func pad(key [16]byte, with byte) (block [hmacBlock]byte) {
	copy(block[:], key[:])
	for i := range block {
		block[i] ^= with
	}
	return block
}

func hmacSHA1(key [16]byte, message []byte) [sha1.Size]byte {
	var scratch [hmacBlock + max(hmacMaximumMessage, sha1.Size)]byte
	block := pad(key, innerPad)
	inner := sha1.Sum(append(append(scratch[:0], block[:]...), message...))
	block = pad(key, outerPad)
	return sha1.Sum(append(append(scratch[:0], block[:]...), inner[:]...))
}

func hmacSHA256(key [16]byte, message []byte) [sha256.Size]byte {
	var scratch [hmacBlock + max(hmacMaximumMessage, sha256.Size)]byte
	block := pad(key, innerPad)
	inner := sha256.Sum256(append(append(scratch[:0], block[:]...), message...))
	block = pad(key, outerPad)
	return sha256.Sum256(append(append(scratch[:0], block[:]...), inner[:]...))
}
