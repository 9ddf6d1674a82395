package users

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

func TestRightAndWrongPasswords(t *testing.T) {
	r := newRig(t, Config{}, line(t, "alice", "secret", 4)+line(t, "bob", strings.Repeat("p", 72), 4))
	r.run()
	r.expect(home, "alice", "secret", Right)
	r.expect(home, "alice", "Secret", Wrong)
	r.expect(home, "alice", "", Wrong)
	r.expect(home, "carol", "secret", Wrong)
	r.expect(home, "", "", Wrong)
	r.expect(home, "bob", strings.Repeat("p", 72), Right)
	r.expect(home, "bob", strings.Repeat("p", 73), Wrong)
	r.expect(home, "alice", "secret\x00secret", Wrong) // has the same hash
	r.expect(netip.Addr{}, "alice", "secret", Right)
	if got, want := r.Counts(), (Counts{Right: 3, Wrong: 6}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
	if r.Len() != 2 || !r.Has("alice") || r.Has("carol") {
		t.Errorf("%d users", r.Len())
	}
}

// Bcrypt ignores what comes behind 72 bytes, and repeats a password with a NUL.
func TestBcryptHasThePitfallsThatAreRefused(t *testing.T) {
	for long, short := range map[string]string{strings.Repeat("p", 100): strings.Repeat("p", 72), "a\x00a": "a"} {
		hash, err := bcrypt.GenerateFromPassword([]byte(short), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		if err := bcrypt.CompareHashAndPassword(hash, []byte(long)); err != nil {
			t.Errorf("%q: %v", long, err)
		}
		if checkPassword([]byte(long)) == nil {
			t.Errorf("%q is accepted", long)
		}
	}
}

func TestFailuresCostTheSameForAllNames(t *testing.T) {
	r := newRig(t, Config{}, line(t, "old", "secret", 4)+line(t, "young", "secret", 8)+line(t, "middle", "secret", 6))
	r.run()
	for _, name := range []string{"nobody", "old", "middle", "young", ""} {
		r.expect(home, name, "wrong", Wrong)
		if rounds := r.work(); rounds != 1<<8 {
			t.Errorf("%q: %d rounds, want %d", name, rounds, 1<<8)
		}
	}
	r.expect(home, "old", "secret", Right)
	if rounds := r.work(); rounds != 1<<4 {
		t.Errorf("a right password: %d rounds", rounds)
	}
	if err := r.rewrite(""); err != nil {
		t.Fatal(err)
	}
	r.expect(home, "nobody", "wrong", Wrong)
	if rounds := r.work(); rounds == 0 {
		t.Error("no rounds where nobody has a password")
	}
}

func TestRemembersASuccess(t *testing.T) {
	r := newRig(t, Config{}, line(t, "alice", "secret", 4))
	r.run()
	r.expect(home, "alice", "secret", Right)
	r.work()
	for range 100 {
		if o := r.Verify(home, "alice", []byte("secret"), nil); o != Right {
			t.Fatal(o)
		}
	}
	if rounds := r.work(); rounds != 0 {
		t.Errorf("%d rounds for a hundred more connections", rounds)
	}
	if c := r.Counts(); c.Right != 101 || c.Remembered != 100 {
		t.Errorf("%+v", c)
	}
	for _, c := range []struct {
		name             string
		source           netip.Addr
		before           time.Duration
		user, password   string
		outcome          Outcome
		remembered, used bool
	}{
		{"another password", home, 0, "alice", "Secret", Wrong, false, true},
		{"the same one again", home, 0, "alice", "secret", Right, true, false},
		{"another network", office, 0, "alice", "secret", Right, false, true},
		{"shortly before the end", home, 5*time.Minute - 1, "alice", "secret", Right, true, false},
		{"the end", home, 1, "alice", "secret", Right, false, true},
	} {
		r.clock.pass(c.before)
		r.expect(c.source, c.user, c.password, c.outcome)
		if used := r.work() > 0; used != c.used {
			t.Errorf("%s: hashed %v", c.name, used)
		}
	}
}

func TestRemembersAHouseholdByItsPrefix(t *testing.T) {
	r := newRig(t, Config{}, line(t, "alice", "secret", 4))
	r.run()
	for source, hashed := range map[string]bool{"2001:db8:0:100::1": true} {
		r.expect(netip.MustParseAddr(source), "alice", "secret", Right)
		if (r.work() > 0) != hashed {
			t.Errorf("%s: hashed %v", source, !hashed)
		}
	}
	for _, c := range []struct {
		source string
		hashed bool
	}{
		{"2001:db8:0:1ff::9", false}, {"2001:db8:0:200::1", true}, {"fe80::1%eth0", true}, {"fe80::2%eth1", false},
		{"192.0.2.7", true}, {"::ffff:192.0.2.7", false}, {"192.0.2.8", true},
	} {
		r.expect(netip.MustParseAddr(c.source), "alice", "secret", Right)
		if (r.work() > 0) != c.hashed {
			t.Errorf("%s: hashed %v", c.source, !c.hashed)
		}
	}
}

func TestForgetsASuccessWhenTheFileChanges(t *testing.T) {
	alice, bob := line(t, "alice", "secret", 4), line(t, "bob", "secret", 4)
	r := newRig(t, Config{}, alice+bob)
	r.run()
	both := func(a, b Outcome) {
		t.Helper()
		r.expect(home, "alice", "secret", a)
		r.expect(home, "bob", "secret", b)
	}
	both(Right, Right)
	r.work()
	if err := r.rewrite("# nothing else\n" + bob + alice); err != nil {
		t.Fatal(err)
	}
	both(Right, Right)
	if rounds := r.work(); rounds != 0 {
		t.Errorf("%d rounds after a change of nothing", rounds)
	}
	if err := r.rewrite(line(t, "alice", "other", 4) + line(t, "bob", "secret", 4)); err != nil {
		t.Fatal(err)
	}
	both(Wrong, Right)
	if rounds := r.work(); rounds != 2<<4 {
		t.Errorf("%d rounds after a change of both", rounds)
	}
	if err := r.rewrite(alice); err != nil {
		t.Fatal(err)
	}
	both(Right, Wrong)
}

func TestKeepsTheUsersOnAnError(t *testing.T) {
	r := newRig(t, Config{}, line(t, "alice", "secret", 4))
	r.run()
	if err := r.rewrite("alice:secret\n"); err == nil || !strings.Contains(err.Error(), r.cfg.File+":1: ") {
		t.Error(err)
	}
	r.expect(home, "alice", "secret", Right)
	os.Remove(r.cfg.File)
	if err := r.Reload(); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	r.expect(office, "alice", "secret", Right)
}

// A password that is right by the old file is not accepted once the new one is in use.
func TestAChangeOfTheFileDuringACheckCounts(t *testing.T) {
	r := newRig(t, Config{}, line(t, "alice", "secret", 4))
	same := r.same
	r.same = func(hash, password []byte) error {
		if err := r.rewrite(line(t, "alice", "other", 4)); err != nil {
			t.Error(err)
		}
		return same(hash, password)
	}
	r.run()
	r.expect(home, "alice", "secret", Wrong)
	if o := r.Verify(home, "alice", []byte("secret"), func(Outcome) {}); o == Right {
		t.Error("the old password is remembered")
	}
}

func TestLimitsFailuresOfAPrefix(t *testing.T) {
	r := newRig(t, Config{Burst: 3, Every: time.Second}, line(t, "alice", "secret", 4))
	r.run()
	r.expect(home, "alice", "secret", Right)
	for i := range 3 {
		r.expect(home, fmt.Sprint("user", i), "wrong", Wrong)
	}
	r.work()
	r.expect(home, "bob", "wrong", Limited)
	r.expect(home, "bob", strings.Repeat("p", 100), Limited)
	if rounds := r.work(); rounds != 0 {
		t.Errorf("%d rounds for a prefix that is limited", rounds)
	}
	r.expect(home, "alice", "secret", Right) // remembered
	r.expect(office, "alice", "wrong", Wrong)
	r.clock.pass(time.Second)
	r.expect(home, "bob", "wrong", Wrong) // one more for each second
	r.expect(home, "bob", "wrong", Limited)
	r.clock.pass(time.Hour)
	for range 3 { // not 3600
		r.expect(home, "bob", "wrong", Wrong)
	}
	r.expect(home, "bob", "wrong", Limited)
	if c := r.Counts(); c.Limited != 4 {
		t.Errorf("%+v", c)
	}
}

func TestLimitCountsForWhatWaitsInTheQueue(t *testing.T) {
	r := newRig(t, Config{Burst: 2, Every: time.Second, Workers: 1}, line(t, "alice", "secret", 4))
	var outcomes []chan Outcome
	for i := range 5 {
		outcomes = append(outcomes, r.begin(home, "alice", fmt.Sprint("wrong", i)))
	}
	r.run()
	for i, want := range []Outcome{Wrong, Wrong, Limited, Limited, Limited} {
		if got := <-outcomes[i]; got != want {
			t.Errorf("check %d: %v, want %v", i, got, want)
		}
	}
}

// Whoever shares a network with a user is not to guess without a hash for each guess.
func TestGuessesAgainstASuccessAreFew(t *testing.T) {
	r := newRig(t, Config{Burst: 1, Every: time.Hour}, line(t, "alice", "secret", 4))
	r.run()
	r.expect(home, "alice", "secret", Right)
	r.expect(home, "alice", "wrong", Wrong)
	for i := range maxMisses - 1 {
		r.expect(home, "alice", fmt.Sprint("guess", i), Limited)
	}
	r.expect(home, "alice", "secret", Limited)
}

func TestIsBusyWhenTheQueueIsFull(t *testing.T) {
	r := newRig(t, Config{Queue: 4, Workers: 1}, line(t, "alice", "secret", 4))
	var outcomes []chan Outcome
	from := sources(5)
	for i := range 4 {
		outcomes = append(outcomes, r.begin(from[i], "alice", "secret"))
	}
	password := []byte("secret")
	if o := r.Verify(from[4], "alice", password, func(Outcome) { t.Error("called") }); o != Busy || !wiped(password) {
		t.Errorf("a full queue: %v, %q", o, password)
	}
	r.run()
	for i, c := range outcomes {
		if o := <-c; o != Right {
			t.Errorf("check %d: %v", i, o)
		}
	}
	r.expect(from[4], "alice", "secret", Right)
	if c := r.Counts(); c.Busy != 1 || c.Right != 5 || len(r.jobs) != 0 || len(r.shares) != 0 {
		t.Errorf("%+v, %d jobs, %d shares", c, len(r.jobs), len(r.shares))
	}
}

func TestOnePrefixGetsHalfOfTheQueue(t *testing.T) {
	r := newRig(t, Config{Queue: 4, Workers: 1}, line(t, "alice", "secret", 4))
	first, second := r.begin(home, "alice", "secret"), r.begin(home, "bob", "secret")
	if o := r.check(home, "carol", "secret"); o != Busy {
		t.Errorf("a third one: %v", o)
	}
	other := r.begin(office, "alice", "secret")
	r.run()
	if a, b, c := <-first, <-second, <-other; a != Right || b != Wrong || c != Right {
		t.Error(a, b, c)
	}
}

func TestSameChecksShareOneHash(t *testing.T) {
	r := newRig(t, Config{Burst: 10, Every: time.Second}, line(t, "alice", "secret", 4))
	var outcomes []chan Outcome
	for range maxWaiters {
		outcomes = append(outcomes, r.begin(home, "alice", "secret"))
	}
	if o := r.check(home, "alice", "secret"); o != Busy {
		t.Errorf("one too many: %v", o)
	}
	wrong := []chan Outcome{r.begin(home, "alice", "wrong"), r.begin(home, "alice", "wrong")}
	r.run()
	for _, c := range outcomes {
		if o := <-c; o != Right {
			t.Fatal(o)
		}
	}
	if a, b := <-wrong[0], <-wrong[1]; a != Wrong || b != Wrong {
		t.Error(a, b)
	}
	if rounds := r.work(); rounds != 2<<4 {
		t.Errorf("%d rounds", rounds)
	}
	if c := r.Counts(); c.Right != maxWaiters || c.Wrong != 2 || c.Remembered != 0 {
		t.Errorf("%+v", c)
	}
}

func TestWipesThePassword(t *testing.T) {
	r := newRig(t, Config{Burst: 2, Every: time.Hour}, line(t, "alice", "secret", 4))
	r.run()
	for _, password := range []string{"secret", "secret", "wrong", strings.Repeat("p", 100), "limited"} {
		b := []byte(password)
		outcome := make(chan bool, 1)
		if o := r.Verify(home, "alice", b, func(Outcome) { outcome <- wiped(b) }); o != Pending {
			outcome <- wiped(b)
		}
		if !<-outcome {
			t.Errorf("%q is left of %q", b, password)
		}
	}
}

func TestEndsWhatWaitsWhenItIsStopped(t *testing.T) {
	r := newRig(t, Config{}, line(t, "alice", "secret", 4))
	waits := r.begin(home, "alice", "secret")
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if o := <-waits; o != Busy && o != Right {
		t.Error(o)
	}
	r.expect(office, "alice", "secret", Busy)
	if len(r.jobs) != 0 || len(r.shares) != 0 {
		t.Errorf("%d jobs, %d shares are left", len(r.jobs), len(r.shares))
	}
}

// Each check has one outcome, whatever happens at the same time.
func TestEachCheckHasOneOutcome(t *testing.T) {
	text := line(t, "alice", "secret", 4)
	r := newRig(t, Config{Queue: 8, Workers: 3, Burst: 50, Every: time.Millisecond}, text)
	r.run()
	var ends atomic.Int64
	const checks = 400
	ended := make(chan bool, checks)
	for i := range checks {
		go func() {
			var calls atomic.Int32
			end := func(Outcome) {
				if calls.Add(1) > 1 {
					t.Error("a second outcome")
				}
				ends.Add(1)
				ended <- true
			}
			source := sources(3)[i%3]
			password := []string{"secret", "wrong", fmt.Sprint(i)}[i%3]
			if o := r.Verify(source, "alice", []byte(password), end); o != Pending {
				end(o)
			}
			if i%50 == 0 {
				if err := r.Reload(); err != nil {
					t.Error(err)
				}
			}
			r.clock.pass(time.Millisecond)
		}()
	}
	for range checks {
		<-ended
	}
	c := r.Counts()
	if n := c.Right + c.Wrong + c.Limited + c.Busy; ends.Load() != checks || n != checks {
		t.Errorf("%d outcomes, %d counted: %+v", ends.Load(), n, c)
	}
}

func TestTablesAreBounded(t *testing.T) {
	r := newRecent[int, string](3)
	for i := range 5 {
		r.put(i, fmt.Sprint(i))
	}
	r.get(2)
	r.put(5, "5")
	r.put(4, "four")
	for i, want := range []string{"", "", "2", "", "four", "5"} {
		if got := r.get(i); (got == nil) != (want == "") || got != nil && *got != want {
			t.Errorf("%d: %v, want %q", i, got, want)
		}
	}
	r.remove(4)
	r.remove(4)
	if len(r.slots) != 2 || r.order.Len() != 2 {
		t.Errorf("%d and %d entries", len(r.slots), r.order.Len())
	}
}
