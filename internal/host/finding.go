//go:build linux

package host

import "cmp"

// Severity is the weight of a finding.
type Severity string

// Severities.
const (
	Note    Severity = "note" // nothing is lost: the box does without, or has seen to it
	Warning Severity = "warn" // some connections, or some of the speed, are lost
	Failure Severity = "fail" // a box cannot run
)

// Kind is a kind of finding. docs/findings.md has the table of all kinds.
type Kind struct {
	ID          string // stable: label of a metric, key of the documentation
	Severity    Severity
	Meaning     string // what is in the way, in general
	Consequence string
	Remedy      string // in general
}

// Finding is an obstacle on the machine or in the network.
type Finding struct {
	ID       string // of its kind
	Severity Severity
	// Subject tells findings of one kind apart: a path, an interface, a chain. It is empty
	// if there can be one only.
	Subject string
	// Path is the name of the path that the obstacle concerns, "" if it concerns all.
	Path        string
	Obstacle    string // what is in the way, here
	Consequence string
	Remedy      string // here
	// Stops has the address families over which no relayed connection can work.
	Stops FamilySet
	// Limits is set if only packets beyond a rate are dropped: connections that run go on.
	Limits bool
}

// FamilySet is a set of address families.
type FamilySet uint8

// Address families of a [FamilySet].
const (
	OverIPv6 FamilySet = 1 << iota
	OverIPv4
)

// Has reports whether IPv4, or else IPv6, is in the set.
func (s FamilySet) Has(is4 bool) bool { return s&familyOf(is4) != 0 }

// familyOf returns the family of an address.
func familyOf(is4 bool) FamilySet {
	if is4 {
		return OverIPv4
	}
	return OverIPv6
}

// Finding returns a finding of the kind about a subject, with the consequence and the
// remedy of the kind.
func (k Kind) Finding(subject, obstacle string) Finding {
	return Finding{ID: k.ID, Severity: k.Severity, Subject: subject, Obstacle: obstacle, Consequence: k.Consequence, Remedy: k.Remedy}
}

// On returns the finding as one that concerns the path of that name.
func (f Finding) On(path string) Finding {
	f.Path = path
	return f
}

// With returns the finding with that remedy, if it is not empty.
func (f Finding) With(remedy string) Finding {
	f.Remedy = cmp.Or(remedy, f.Remedy)
	return f
}

// Detail returns the obstacle and its consequence in one line.
func (f Finding) Detail() string {
	if f.Consequence == "" {
		return f.Obstacle
	}
	return f.Obstacle + ": " + f.Consequence
}

// key identifies a finding: two findings with one key are the same obstacle.
type key struct{ id, subject, path string }

func (f Finding) key() key { return key{f.ID, f.Subject, f.Path} }

// weights order the severities.
var weights = map[Severity]int{Failure: 0, Warning: 1, Note: 2}

// compareFindings orders by severity, the worst first, and then by ID, path and subject.
func compareFindings(a, b Finding) int {
	return cmp.Or(
		cmp.Compare(weights[a.Severity], weights[b.Severity]), cmp.Compare(a.ID, b.ID),
		cmp.Compare(a.Path, b.Path), cmp.Compare(a.Subject, b.Subject),
	)
}
