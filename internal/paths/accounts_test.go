package paths

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAllowancesThatAreWrong(t *testing.T) {
	day := Quota{Bytes: 1e9, Period: Day}
	for _, c := range []struct {
		all  Allowances
		says string
	}{
		{Allowances{{User: "alice", Rate: 1e6}, {User: "bob", Quota: day}, {User: AnyUser, Rate: 1, Quota: day}}, ""},
		{Allowances{{Rate: 1e6}}, "no name"},
		{Allowances{{User: "alice"}}, `user "alice": neither rate nor quota`},
		{Allowances{{User: "alice", Rate: 1}, {User: "alice", Rate: 2}}, "two allowances"},
		{Allowances{{User: "alice", Quota: Quota{Bytes: 1, Period: "year"}}}, `quota per "year"`},
	} {
		if err := c.all.Validate(); (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c.all, err)
		}
	}
}

func TestAllowanceOfAUser(t *testing.T) {
	all := Allowances{{User: AnyUser, Rate: 1}, {User: "alice", Rate: 2}}
	for user, rate := range map[string]uint64{"alice": 2, "bob": 1, "": 0, AnyUser: 1} {
		if got := all.Of(user).Rate; got != rate {
			t.Errorf("user %q: %d, want %d", user, got, rate)
		}
	}
}

func TestAccountsSpendQuotas(t *testing.T) {
	day := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	file := filepath.Join(t.TempDir(), "usage.json")
	all := Allowances{{User: "alice", Quota: Quota{Bytes: 1000, Period: Day}}}
	open := func() (*Accounts, *Usage) {
		u := OpenUsage(file, time.Time{}, slog.New(slog.DiscardHandler))
		return NewAccounts(all, u), u
	}
	a, usage := open()
	read := func(elapsed time.Duration, up, down uint64, moved, spent bool) {
		t.Helper()
		if got := a.Read(elapsed, day, "alice", up, down); got != moved || a.Spent(day, "alice") != spent {
			t.Errorf("after %d and %d bytes: moved %v, spent %v", up, down, got, a.Spent(day, "alice"))
		}
	}
	read(0, 100, 200, true, false)
	read(time.Second, 100, 200, false, false)
	read(2*time.Second, 400, 599, true, false)
	if r := a.Rate("alice"); r != (Rate{8 * 300, 8 * 399}) {
		t.Errorf("rate %+v", r)
	}
	if a.Read(0, day, "bob", 1e6, 1e6); a.Spent(day, "bob") || a.Used("bob") != 0 {
		t.Error("a user without a quota has used it up")
	}
	if err := usage.Save(); err != nil {
		t.Fatal(err)
	}
	a, usage = open() // the box starts again, and counts from zero
	read(0, 1, 0, true, true)
	if usage.Used("alice") != 1000 {
		t.Errorf("used %d", usage.Used("alice"))
	}
	if a.Spent(day.AddDate(0, 0, 1), "alice") {
		t.Error("the next day has no quota of its own")
	}
	a.Allowances = Allowances{{User: "alice", Quota: Quota{Bytes: 2000, Period: Day}}}
	if a.Spent(day.AddDate(0, 0, 1), "alice") {
		t.Error("a larger quota is used up")
	}
}
