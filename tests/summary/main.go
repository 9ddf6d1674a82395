// Command summary reads the output of go test -json from standard input and prints it as
// go test does without -v: a line for each package, and all that a test that
// failed has said. Go test keeps silent about skipped tests of a package that
// passes; summary lists them at the end, one line each. It exits with 1 if a
// package fails, or if no package was tested.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
)

func main() {
	s := summary{out: os.Stdout, said: make(map[string][]string)}
	if err := s.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "summary:", err)
		os.Exit(1)
	}
	if s.finish(); s.failed || s.packages == 0 {
		os.Exit(1)
	}
}

// event is a line of go test -json: see go doc test2json, and go help buildjson.
type event struct {
	Action, Package, Test, Output, ImportPath string
}

// summary is what is known of the tests so far.
type summary struct {
	out      io.Writer
	said     map[string][]string // output of what has not ended yet, by package and test
	skips    []string
	packages int // that have ended
	failed   bool
}

// read takes all events. A line that is none is printed as it is.
func (s *summary) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				s.print(string(line))
			} else {
				s.take(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) take(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		s.print(e.Output)
	case "build-fail":
		s.failed = true
	case "output":
		if e.Test == "" || !isProgress(e.Output) {
			s.said[key] = append(s.said[key], e.Output)
		}
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(e)
		} else {
			s.endTest(e, key)
		}
		delete(s.said, key)
	}
}

// isProgress reports whether a line only says that a test begins or goes on.
func isProgress(line string) bool { return strings.HasPrefix(line, "=== ") }

// endTest prints what a test that failed has said. Its subtests have ended before.
func (s *summary) endTest(e event, key string) {
	switch e.Action {
	case "fail":
		s.print(strings.Join(s.said[key], ""))
	case "skip":
		s.skips = append(s.skips, path.Base(e.Package)+" "+e.Test+": "+reason(s.said[key]))
	}
}

// endPackage prints the line of a package, and if it fails all that its main
// function and tests that never ended have said.
func (s *summary) endPackage(e event) {
	s.packages++
	all := s.said[e.Package+" "]
	if e.Action != "fail" {
		for _, line := range all {
			if strings.HasPrefix(line, "ok ") || strings.HasPrefix(line, "? ") {
				s.print(line)
			}
		}
		return
	}
	s.failed = true
	for key, said := range s.said {
		if p, test, _ := strings.Cut(key, " "); p == e.Package && test != "" {
			s.print(strings.Join(said, ""))
		}
	}
	s.print(strings.Join(all, ""))
}

// place is where in the source a test has logged a line.
var place = regexp.MustCompile(`^\s*\S+\.go:\d+: `)

// reason is what a test that was skipped has said last.
func reason(said []string) string {
	for _, line := range slices.Backward(said) {
		if place.MatchString(line) {
			return strings.TrimSpace(place.ReplaceAllString(line, ""))
		}
	}
	return "no reason given"
}

// finish prints the skips.
func (s *summary) finish() {
	if len(s.skips) > 0 {
		s.print("\nskipped:\n")
	}
	for _, line := range s.skips {
		s.print("  " + line + "\n")
	}
}

func (s *summary) print(text string) {
	fmt.Fprint(s.out, text) //nolint:errcheck // nobody is there to be told
}
