package users

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"net/netip"
	"time"
)

// digest is the keyed hash of a user, a source's prefix and a password.
type digest [sha256.Size]byte

// memory remembers successful checks, so that a client's next connections cost no bcrypt.
type memory struct {
	mac  hash.Hash // HMAC-SHA256 with a random key of this process
	life time.Duration
	of   *recent[origin, success]
}

// origin is the origin of checks: a user in a network. A success counts for its network
// only, so that nobody elsewhere can guess against it without a hash for each guess.
type origin struct {
	name string
	from netip.Prefix
}

// success is a check that has succeeded.
type success struct {
	sum    digest
	hash   []byte // of the user, at that time
	until  time.Duration
	misses int // other passwords since
}

// Bounds of the memory.
const (
	maxSuccesses = 1 << 16
	// maxMisses is the number of wrong passwords after which a success is forgotten: they
	// cost a guesser no hash.
	maxMisses = 20
)

func newMemory(life time.Duration) *memory {
	key := make([]byte, sha256.Size)
	rand.Read(key) // never fails
	return &memory{mac: hmac.New(sha256.New, key), life: life, of: newRecent[origin, success](maxSuccesses)}
}

// sum returns the keyed hash of a check.
func (m *memory) sum(o origin, password []byte) (sum digest) {
	m.mac.Reset()
	m.mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(o.name))))
	m.mac.Write([]byte(o.name))
	from := o.from.Addr().As16()
	m.mac.Write(from[:])
	m.mac.Write(password)
	m.mac.Sum(sum[:0])
	return sum
}

// has reports whether a check with that sum has succeeded, and the user has the same hash
// since.
func (m *memory) has(now time.Duration, o origin, sum digest, hash []byte) bool {
	s := m.of.get(o)
	if s == nil {
		return false
	}
	if now >= s.until || !bytes.Equal(s.hash, hash) {
		m.of.remove(o)
		return false
	}
	if hmac.Equal(s.sum[:], sum[:]) {
		return true
	}
	if s.misses++; s.misses >= maxMisses {
		m.of.remove(o)
	}
	return false
}

// add remembers a success.
func (m *memory) add(now time.Duration, o origin, sum digest, hash []byte) {
	m.of.put(o, success{sum: sum, hash: hash, until: now + m.life})
}
