package users

import (
	"context"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Config of the users of a gateway. Zero fields have the defaults named there.
type Config struct {
	File string
	Now  func() time.Duration // since the start of the box

	Workers  int           // that hash, at the same time; half of the processors
	Queue    int           // checks that wait for a worker; 256
	Remember time.Duration // a successful check; 5 min
	// Burst is the number of failures in a row that a source's prefix may have, and Every
	// the time after which it may have one more; 50, and 6 s.
	Burst int
	Every time.Duration
}

// withDefaults returns the configuration with defaults for zero fields.
func (c Config) withDefaults() Config {
	c.Workers = orDefault(c.Workers, max(1, runtime.NumCPU()/2))
	c.Queue = orDefault(c.Queue, 256)
	c.Remember = orDefault(c.Remember, 5*time.Minute)
	c.Burst = orDefault(c.Burst, 50)
	c.Every = orDefault(c.Every, 6*time.Second)
	return c
}

func orDefault[T int | time.Duration](value, preset T) T {
	if value == 0 {
		return preset
	}
	return value
}

// Users are the users of a gateway. They are safe for concurrent use.
type Users struct {
	cfg   Config
	same  compare
	set   atomic.Pointer[set]
	queue chan *job

	mu       sync.Mutex // over what follows; no callback is called under it
	memory   *memory
	failures *failures
	jobs     map[digest]*job      // in the queue, or with a worker
	shares   map[netip.Prefix]int // jobs of each prefix
	stopped  bool
	counts   Counts
}

// Open reads the users' file.
func Open(cfg Config) (*Users, error) {
	cfg = cfg.withDefaults()
	s, err := read(cfg.File)
	if err != nil {
		return nil, err
	}
	u := &Users{
		cfg: cfg, same: bcrypt.CompareHashAndPassword, queue: make(chan *job, cfg.Queue),
		memory: newMemory(cfg.Remember), failures: newFailures(cfg.Burst, cfg.Every),
		jobs: make(map[digest]*job), shares: make(map[netip.Prefix]int),
	}
	u.set.Store(s)
	return u, nil
}

// Reload reads the file again. On an error the users stay as they are.
func (u *Users) Reload() error {
	s, err := read(u.cfg.File)
	if err != nil {
		return err
	}
	u.set.Store(s)
	return nil
}

// Len returns the number of users.
func (u *Users) Len() int { return len(u.set.Load().hashes) }

// Has reports whether there is a user of that name.
func (u *Users) Has(name string) bool { return u.set.Load().hashes[name] != nil }

// Run hashes what Verify queues, until ctx ends. What is queued then is Busy, and so is
// what comes later.
func (u *Users) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range u.cfg.Workers {
		workers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case j := <-u.queue:
					u.work(j)
				}
			}
		})
	}
	workers.Wait()
	u.mu.Lock()
	u.stopped = true
	u.mu.Unlock()
	for {
		select {
		case j := <-u.queue:
			u.end(j, Busy, nil)
		default:
			return nil
		}
	}
}
