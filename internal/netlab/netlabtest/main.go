//go:build linux

package netlabtest

import (
	"os"
	"testing"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/tooltest"
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

// Require skips a test where hosts cannot be made, and logs the reason. With CI=true
// in the environment it fails the test instead.
func Require(t testing.TB) {
	t.Helper()
	err := refused
	if err == nil {
		err = netlab.Probe()
	}
	if err != nil {
		tooltest.Missing(t, "what needs a network", err.Error())
	}
}
