package users

import "golang.org/x/crypto/bcrypt"

// set has the users of one version of the file. It does not change once it is in use.
type set struct {
	hashes map[string][]byte
	cost   int // the largest of any user
	// dummies has a hash of nobody for each cost.
	dummies [maxCost + 1][]byte
}

func newSet() *set {
	s := &set{hashes: make(map[string][]byte), cost: bcrypt.MinCost}
	for cost := bcrypt.MinCost; cost <= maxCost; cost++ {
		s.dummies[cost] = dummy(cost)
	}
	return s
}

func (s *set) add(name string, hash []byte) {
	s.hashes[name] = hash
	s.cost = max(s.cost, costOf(hash))
}

// compare is [bcrypt.CompareHashAndPassword], or its double.
type compare func(hash, password []byte) error

// check reports whether the password is that of the user, and returns the hash that says so.
//
// A failure costs the same work for all names: 2^cost rounds for the largest cost. The hash
// of a user with the smaller cost c is followed by dummies of cost c, c+1 and so on below the
// largest: 2^c + 2^c + 2^(c+1) + … = 2^cost.
func (s *set) check(same compare, name string, password []byte) (hash []byte, right bool) {
	hash, known := s.hashes[name]
	if !known {
		same(s.dummies[s.cost], password)
		return nil, false
	}
	if same(hash, password) == nil {
		return hash, true
	}
	for cost := costOf(hash); cost < s.cost; cost++ {
		same(s.dummies[cost], password)
	}
	return nil, false
}
