package paths

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Allowance is what a user of a gateway may carry, as a [Path] may: a rate, and a quota.
type Allowance struct {
	User  string // or [AnyUser]
	Rate  uint64 // bit/s, each way, of all connections together; 0: no bound
	Quota Quota
}

// AnyUser is the name for each user who has no allowance of the own name.
const AnyUser = "*"

// Validate returns an error if an allowance is invalid.
func (a Allowance) Validate() error {
	switch {
	case a.User == "":
		return errors.New("no name")
	case a.Rate == 0 && a.Quota == Quota{}:
		return errors.New("neither rate nor quota")
	}
	return a.Quota.Validate()
}

// Allowances are those of all users.
type Allowances []Allowance

// Validate returns an error if an allowance is invalid, or a user has two.
func (all Allowances) Validate() error {
	for i, a := range all {
		err := a.Validate()
		if slices.ContainsFunc(all[:i], func(b Allowance) bool { return a.User == b.User }) {
			err = cmp.Or(err, errors.New("there are two allowances"))
		}
		if err != nil {
			return fmt.Errorf("user %q: %w", a.User, err)
		}
	}
	return nil
}

// Of returns the allowance of a user, the zero Allowance for none. Clients without a user
// have none.
func (all Allowances) Of(user string) Allowance {
	for _, name := range []string{user, AnyUser} {
		if i := slices.IndexFunc(all, func(a Allowance) bool { return a.User == name }); i >= 0 && user != "" {
			return all[i]
		}
	}
	return Allowance{}
}

// HaveQuotas reports whether any user has a quota.
func (all Allowances) HaveQuotas() bool {
	return slices.ContainsFunc(all, func(a Allowance) bool { return a.Quota.Bytes > 0 })
}

// Accounts measures the rates of users, and counts their bytes against their quotas, as
// [Steering] does for paths. It has no clock of its own, and is for one goroutine.
type Accounts struct {
	Allowances
	usage *Usage
	of    map[string]*account
}

// account is that of a user.
type account struct {
	meter RateMeter
	rate  Rate
}

// NewAccounts returns the accounts of users with these allowances. Usage counts against
// their quotas; the caller saves it.
func NewAccounts(all Allowances, usage *Usage) *Accounts {
	return &Accounts{Allowances: all, usage: usage, of: make(map[string]*account)}
}

// Read takes the bytes that a user has carried since the box started. It reports whether the
// user has carried some since the last reading. Elapsed is monotonic and may count from
// anywhere; now is the time of day.
func (a *Accounts) Read(elapsed time.Duration, now time.Time, user string, up, down uint64) (moved bool) {
	at := a.of[user]
	if at == nil {
		at = new(account)
		at.meter.Read(elapsed-time.Second, 1, 0, 0) // all bytes are new
		a.of[user] = at
	}
	r := at.meter.Read(elapsed, 1, up, down)
	if r.Elapsed > 0 {
		at.rate = r.Rate
	}
	if q := a.Of(user).Quota; q.Bytes > 0 {
		a.usage.Add(now, user, q, r.Bytes)
	}
	return r.Bytes > 0
}

// Spent reports whether a user has used up the quota of the present period.
func (a *Accounts) Spent(now time.Time, user string) bool {
	q := a.Of(user).Quota
	if q.Bytes == 0 {
		return false
	}
	a.usage.Add(now, user, q, 0) // a new period may have begun
	return a.usage.Used(user) >= q.Bytes
}

// Used returns the bytes that a user has carried in the present period of the quota.
func (a *Accounts) Used(user string) uint64 { return a.usage.Used(user) }

// Rate returns the rate of a user at the last reading.
func (a *Accounts) Rate(user string) Rate {
	if at := a.of[user]; at != nil {
		return at.rate
	}
	return Rate{}
}
