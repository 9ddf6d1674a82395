//go:build linux

package host

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Findings are the findings of a running box. Each part of the box reports its own; a new
// one is logged once, and once more when it is gone. It is safe for concurrent use.
type Findings struct {
	log *slog.Logger
	now func() time.Time

	mu       sync.Mutex
	bySource map[string][]Current
	ended    map[key]time.Time // findings that are gone since less than quiet
}

// Current is a finding that holds now.
type Current struct {
	Finding
	Since time.Time
}

// quiet is the time in which a finding that comes back is not logged again.
const quiet = time.Minute

// NewFindings returns a box's findings, which are logged there.
func NewFindings(log *slog.Logger) *Findings {
	return &Findings{log: log, now: time.Now, bySource: make(map[string][]Current), ended: make(map[key]time.Time)}
}

// Report replaces the findings that a source has reported before. The source is the part
// of the box that found them.
func (s *Findings) Report(source string, found ...Finding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for k, at := range s.ended {
		if now.Sub(at) >= quiet {
			delete(s.ended, k)
		}
	}
	before := s.bySource[source]
	var after []Current
	for _, f := range found {
		if holds(after, f.key()) {
			continue
		}
		c := Current{f, now}
		if i := index(before, f.key()); i >= 0 {
			c.Since = before[i].Since
		} else if _, lately := s.ended[f.key()]; !lately {
			s.began(f)
		}
		delete(s.ended, f.key())
		after = append(after, c)
	}
	s.bySource[source] = after
	for _, c := range before {
		if !holds(after, c.key()) {
			s.ended[c.key()] = now
			s.log.Info("mended: "+c.Obstacle, c.labels()...)
		}
	}
}

func (s *Findings) began(f Finding) {
	level := slog.LevelWarn
	switch f.Severity {
	case Note:
		level = slog.LevelInfo
	case Failure:
		level = slog.LevelError
	}
	s.log.Log(context.Background(), level, f.Detail(), append(f.labels(), "remedy", f.Remedy)...)
}

// labels returns the attributes of a finding in the log.
func (f Finding) labels() []any {
	labels := []any{"finding", f.ID}
	if f.Path != "" {
		labels = append(labels, "path", f.Path)
	}
	return labels
}

// All returns the findings that hold now, the worst first.
func (s *Findings) All() []Current {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Current
	for _, of := range s.bySource {
		all = append(all, of...)
	}
	slices.SortFunc(all, func(a, b Current) int { return compareFindings(a.Finding, b.Finding) })
	return all
}

func index(in []Current, k key) int {
	return slices.IndexFunc(in, func(c Current) bool { return c.key() == k })
}

func holds(in []Current, k key) bool { return index(in, k) >= 0 }
