// Package tests holds what is true of synbond as a whole: end-to-end scenarios,
// and the rules of the house.
//
// A scenario builds a network with package netlab or, where a foreign script is
// the point, with ip(8), runs the boxes as processes of their own, and looks at
// what hosts that know nothing of them see. The boxes are the test binary
// itself, which plays synbond when its environment says so.
package tests
