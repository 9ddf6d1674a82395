package users_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/synbond/synbond/internal/users"
)

// A gateway asks for the check of a password, and goes on with other things meanwhile.
func ExampleUsers_Verify() {
	dir, _ := os.MkdirTemp("", "users")
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "users")
	line, _ := users.Line("alice", []byte("secret"))
	os.WriteFile(file, []byte(line+"\n"), 0o600)

	began := time.Now()
	u, err := users.Open(users.Config{File: file, Now: func() time.Duration { return time.Since(began) }})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	var workers sync.WaitGroup
	workers.Go(func() { u.Run(ctx) })

	phone := netip.MustParseAddr("192.0.2.7")
	outcome := make(chan users.Outcome)
	fmt.Println(u.Verify(phone, "alice", []byte("secret"), func(o users.Outcome) { outcome <- o }))
	fmt.Println(<-outcome)
	fmt.Println(u.Verify(phone, "alice", []byte("secret"), nil), "at once")

	stop()
	workers.Wait()
	// Output:
	// pending
	// right
	// right at once
}
