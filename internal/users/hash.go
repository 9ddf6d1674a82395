package users

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/crypto/bcrypt"
)

// Costs of bcrypt: a hash takes 2^cost rounds.
const (
	// newCost is that of new hashes: some 60 ms on a processor of 2024.
	newCost = 10
	// maxCost is the largest in the file: some 2 s. A larger one would keep a worker
	// busy for so long that clients give up.
	maxCost = 15
)

// maxPassword is the number of bytes that bcrypt takes. It would ignore further ones.
const maxPassword = 72

// Why a password cannot be set.
var (
	ErrEmptyPassword = errors.New("an empty password")
	ErrLongPassword  = fmt.Errorf("a password of more than %d bytes, of which bcrypt would ignore the end", maxPassword)
	// ErrNULPassword: bcrypt repeats the password and a NUL, so that "a" and "a\0a" have
	// the same hash.
	ErrNULPassword = errors.New("a password with a NUL byte")
)

// checkPassword returns why a password can neither be set nor be right.
func checkPassword(password []byte) error {
	switch {
	case len(password) == 0:
		return ErrEmptyPassword
	case len(password) > maxPassword:
		return ErrLongPassword
	case bytes.IndexByte(password, 0) >= 0:
		return ErrNULPassword
	}
	return nil
}

// Line returns the line of the users' file for a user with that password, without a line
// break at its end. It does not change the password.
func Line(name string, password []byte) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	if err := checkPassword(password); err != nil {
		return "", err
	}
	hash, err := bcrypt.GenerateFromPassword(password, newCost)
	if err != nil {
		return "", err
	}
	return name + ":" + string(hash), nil
}

// Shape of a hash: $2b$CC$ with two digits of the cost, 22 characters of salt, 31 of hash.
const (
	hashSize   = 60
	prefixSize = 7
	costAt     = 4
	alphabet   = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
)

// schemes have the prefixes of hashes of other schemes, with their names.
var schemes = []struct{ prefix, name string }{
	{"$2x$", "bcrypt of a version with a known mistake"},
	{"$2$", "bcrypt of its first version"},
	{"$1$", "MD5"}, {"$apr1$", "MD5 of Apache"},
	{"$5$", "SHA-256"}, {"$6$", "SHA-512"}, {"$7$", "scrypt"}, {"$scrypt$", "scrypt"},
	{"$y$", "yescrypt"}, {"$gy$", "gost-yescrypt"},
	{"$argon2id$", "argon2id"}, {"$argon2i$", "argon2i"}, {"$argon2d$", "argon2d"},
	{"$pbkdf2", "PBKDF2"}, {"{SHA}", "SHA-1 of LDAP"}, {"{SSHA}", "salted SHA-1 of LDAP"}, {"{", "LDAP"},
	{"$", "an unknown scheme"},
}

// advice ends errors about hashes.
const advice = "want one of bcrypt, as synbond passwd makes it"

// checkHash returns an error about what is no hash of bcrypt. The error has no part of it.
func checkHash(hash []byte) error {
	if !bytes.HasPrefix(hash, []byte("$2a$")) && !bytes.HasPrefix(hash, []byte("$2b$")) && !bytes.HasPrefix(hash, []byte("$2y$")) {
		for _, s := range schemes {
			if bytes.HasPrefix(hash, []byte(s.prefix)) {
				return fmt.Errorf("a hash of %s: %s", s.name, advice)
			}
		}
		return fmt.Errorf("no hash: %s", advice)
	}
	if bytes.IndexByte(hash, ':') >= 0 {
		return errors.New("more than USER:HASH in the line")
	}
	if len(hash) != hashSize || hash[prefixSize-1] != '$' || len(bytes.Trim(hash[prefixSize:], alphabet)) > 0 {
		return fmt.Errorf("a damaged hash of bcrypt: want %d characters, as synbond passwd makes them", hashSize)
	}
	cost, err := strconv.ParseUint(string(hash[costAt:costAt+2]), 10, 8)
	if err != nil || cost < uint64(bcrypt.MinCost) || cost > maxCost {
		return fmt.Errorf("a hash of bcrypt of another cost than %d to %d: %s", bcrypt.MinCost, maxCost, advice)
	}
	return nil
}

// costOf returns the cost of a hash that checkHash accepts.
func costOf(hash []byte) int {
	return int(hash[costAt]-'0')*10 + int(hash[costAt+1]-'0')
}

// dummy returns a hash of that cost that no password is known to have. Its making takes
// no time.
func dummy(cost int) []byte {
	hash := fmt.Appendf(nil, "$2a$%02d$", cost)
	random := make([]byte, hashSize-prefixSize)
	rand.Read(random) // never fails
	for _, b := range random {
		hash = append(hash, alphabet[b%64])
	}
	return hash
}
