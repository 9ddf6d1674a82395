package users

import (
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// BenchmarkRemembered checks the password of a phone's next connections.
func BenchmarkRemembered(b *testing.B) {
	u := &Users{
		cfg: Config{Now: func() time.Duration { return 0 }}.withDefaults(), same: bcrypt.CompareHashAndPassword,
		memory: newMemory(time.Minute), failures: newFailures(1, time.Second),
	}
	s := newSet()
	s.add("alice", []byte(vector2a))
	u.set.Store(s)
	o := origin{"alice", prefixOf(home)}
	u.memory.add(0, o, u.memory.sum(o, []byte("secret")), s.hashes["alice"])
	password := make([]byte, 6)
	b.ReportAllocs()
	for b.Loop() {
		copy(password, "secret")
		if outcome := u.Verify(home, "alice", password, nil); outcome != Right {
			b.Fatal(outcome)
		}
	}
}
