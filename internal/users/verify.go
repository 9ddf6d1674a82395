package users

import (
	"bytes"
	"net/netip"
)

// Outcome of a check.
type Outcome uint8

const (
	// Pending: the callback will get another outcome.
	Pending Outcome = iota
	// Right: there is such a user, with that password.
	Right
	// Wrong: no such user, or another password.
	Wrong
	// Limited: not checked, because too many checks from the source's prefix have failed.
	Limited
	// Busy: not checked, because too many checks wait.
	Busy
)

// String returns the outcome in lower case, such as "wrong", for use as a metric label.
func (o Outcome) String() string {
	return [...]string{"pending", "right", "wrong", "limited", "busy"}[o]
}

// Counts count outcomes of checks since the start.
type Counts struct {
	Right, Wrong, Limited, Busy uint64
	// Remembered are those of Right that took no hash.
	Remembered uint64
}

// job is a check that takes a hash.
type job struct {
	origin
	sum      digest
	password []byte
	done     []func(Outcome) // one for each connection that waits for the outcome
}

// maxWaiters is the largest number of connections that wait for one job.
const maxWaiters = 256

// Verify checks a user's password for a client with that source address. The outcome is
// returned, or, if that is Pending, given to done: once, later, by a worker.
//
// Verify owns the password from then on, and overwrites it.
func (u *Users) Verify(source netip.Addr, name string, password []byte, done func(Outcome)) Outcome {
	o := origin{name, prefixOf(source)}
	now := u.cfg.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	sum := u.memory.sum(o, password)
	result := Pending
	switch {
	case u.memory.has(now, o, sum, u.set.Load().hashes[name]):
		u.counts.Remembered++
		result = Right
	case u.failures.limited(now, o.from):
		result = Limited
	case checkPassword(password) != nil:
		u.failures.add(now, o.from, 1)
		result = Wrong
	case u.join(sum, done):
	case !u.enqueue(&job{origin: o, sum: sum, password: password, done: []func(Outcome){done}}):
		result = Busy
	default:
		return Pending // the worker overwrites the password
	}
	clear(password)
	u.count(result, 1)
	return result
}

// join has done wait for the same check, if one is under way. It reports whether it does.
func (u *Users) join(sum digest, done func(Outcome)) bool {
	j := u.jobs[sum]
	if j == nil || len(j.done) >= maxWaiters {
		return false
	}
	j.done = append(j.done, done)
	return true
}

// enqueue puts a job into the queue, unless that is full, or half full of jobs of its
// prefix: one source is not to keep all others out.
func (u *Users) enqueue(j *job) bool {
	if u.stopped || u.jobs[j.sum] != nil || u.shares[j.from] >= max(1, u.cfg.Queue/2) {
		return false
	}
	select {
	case u.queue <- j:
	default:
		return false
	}
	u.jobs[j.sum] = j
	u.shares[j.from]++
	return true
}

// work does a job.
func (u *Users) work(j *job) {
	// Other jobs of the prefix may have failed since this one was queued.
	u.mu.Lock()
	limited := u.failures.limited(u.cfg.Now(), j.from)
	u.mu.Unlock()
	if limited {
		u.end(j, Limited, nil)
		return
	}
	outcome := Wrong
	hash, right := u.set.Load().check(u.same, j.name, j.password)
	if right {
		outcome = Right
	}
	u.end(j, outcome, hash)
}

// end ends a job. The hash is that of the user, if the password is right.
func (u *Users) end(j *job, outcome Outcome, hash []byte) {
	clear(j.password)
	u.mu.Lock()
	now := u.cfg.Now()
	if outcome == Right && !bytes.Equal(hash, u.set.Load().hashes[j.name]) {
		outcome = Wrong // by now: the file has changed meanwhile
	}
	switch outcome {
	case Right:
		u.memory.add(now, j.origin, j.sum, hash)
	case Wrong:
		u.failures.add(now, j.from, len(j.done))
	}
	delete(u.jobs, j.sum)
	if u.shares[j.from]--; u.shares[j.from] == 0 {
		delete(u.shares, j.from)
	}
	u.count(outcome, len(j.done))
	u.mu.Unlock()
	for _, done := range j.done {
		done(outcome)
	}
}

// count counts outcomes.
func (u *Users) count(o Outcome, n int) {
	switch o {
	case Right:
		u.counts.Right += uint64(n)
	case Wrong:
		u.counts.Wrong += uint64(n)
	case Limited:
		u.counts.Limited += uint64(n)
	case Busy:
		u.counts.Busy += uint64(n)
	}
}

// Counts returns the counts of outcomes.
func (u *Users) Counts() Counts {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.counts
}
