package socks_test

import (
	"fmt"
	"net/netip"

	"github.com/synbond/synbond/internal/socks"
)

// A client sends all of its messages at once, and the server's caller checks the password and
// dials.
func Example() {
	to, _ := socks.NewDestination("example.com", 443)
	client, _ := socks.NewClient(to, socks.Login{User: "alice", Password: socks.Secret("secret")}, true)
	server := socks.NewServer(socks.Admission{Users: true})

	flight := client.Start(nil)
	out, want := server.Receive(nil, flight)
	fmt.Println(want)
	user, password := server.Login()
	out, want = server.Checked(out, user == "alice" && string(password) == "secret")
	clear(password)
	fmt.Println(want, server.Destination(), "for", server.User())
	out, want = server.Dialed(out, netip.MustParseAddrPort("203.0.113.1:50000"))
	fmt.Println(want)

	_, want = client.Receive(nil, out)
	fmt.Println(want, client.Bound())
	// Output:
	// check
	// dial example.com:443 for alice
	// done
	// done 203.0.113.1:50000
}

// The reply says why a dial has failed, and a client's error wraps that of connect(2).
func ExampleReply() {
	err := fmt.Errorf("example.com does not resolve: %w", socks.HostUnreachable)
	fmt.Println(socks.ReplyTo(err))
	// Output: host unreachable
}
