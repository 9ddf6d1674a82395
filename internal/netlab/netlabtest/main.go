package netlabtest

import (
	"os"
	"testing"

	"github.com/synbond/synbond/internal/netlab"
)

// refused is the reason why [Main] could not get the privileges.
var refused error

// Main runs a package's tests with the privileges to make hosts, if need be by
// re-executing the test binary, and exits:
//
//	func TestMain(m *testing.M) { netlabtest.Main(m) }
func Main(m interface{ Run() int }) {
	refused = netlab.Reexec()
	os.Exit(m.Run())
}

// Require skips a test where hosts cannot be made, and says why. With CI=true
// in the environment it fails the test instead.
func Require(t testing.TB) {
	t.Helper()
	err := refused
	if err == nil {
		err = netlab.Probe()
	}
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("networks are required with CI=true: %v", err)
	default:
		t.Skipf("no networks: %v", err)
	}
}
