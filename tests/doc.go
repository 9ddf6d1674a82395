// Package tests has the end-to-end tests of synbond, and tests of the source tree as
// a whole: which packages import which, and the documents.
//
// A test builds a network with package netlab or, as a foreign script would, with
// ip(8). It runs the boxes as processes of their own, and checks the traffic of hosts
// that know nothing of them. The boxes are the test binary itself, in the role that an
// environment variable names.
package tests
