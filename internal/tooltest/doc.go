// Package tooltest lets tests use programs that a machine may lack: tshark, say,
// as a second decoder. A test that cannot run is skipped with one line that names
// the check that was left out and its reason; with CI=true in the environment it
// fails instead. Only tests import the package.
package tooltest
