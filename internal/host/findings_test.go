//go:build linux

package host

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// logged returns what the log says since the last call, a line per entry.
func logged(log *bytes.Buffer) []string {
	defer log.Reset()
	return strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
}

func TestFindingsAreLoggedWhenTheyBeginAndWhenTheyEnd(t *testing.T) {
	var log bytes.Buffer
	s := NewFindings(slog.New(slog.NewTextHandler(&log, nil)))
	now := time.Unix(1000, 0)
	s.now = func() time.Time { return now }
	off := NotForwarding.Finding("IPv6", "IPv6 is not forwarded")
	for _, step := range []struct {
		name    string
		pass    time.Duration
		found   []Finding
		want    string // in the only line of the log, "" if there is none
		current int
	}{
		{"it begins", 0, []Finding{off, off}, `level=WARN msg="IPv6 is not forwarded: `, 1},
		{"it goes on", time.Second, []Finding{off}, "", 1},
		{"it ends", time.Second, nil, `level=INFO msg="mended: IPv6 is not forwarded" finding=not-forwarding`, 0},
		{"it comes back soon", time.Second, []Finding{off}, "", 1},
		{"it ends again", time.Second, nil, `mended`, 0},
		{"it comes back later", quiet, []Finding{off}, "level=WARN", 1},
		{"another one", time.Second, []Finding{off, InputDrops.Finding("inet fw", "closed").On("dsl")}, "path=dsl", 2},
	} {
		now = now.Add(step.pass)
		s.Report("machine", step.found...)
		lines := logged(&log)
		if len(lines) != 1 || !strings.Contains(lines[0], step.want) || (step.want == "") != (lines[0] == "") {
			t.Errorf("%s: log %q, want %q", step.name, lines, step.want)
		}
		if n := len(s.All()); n != step.current {
			t.Errorf("%s: %d findings, want %d", step.name, n, step.current)
		}
	}
	if since := s.All()[1].Since; !since.Equal(now.Add(-time.Second)) {
		t.Errorf("the finding that goes on is from %v", since)
	}
}

func TestFindingsOfOneSourceLeaveThoseOfAnother(t *testing.T) {
	s := NewFindings(slog.New(slog.DiscardHandler))
	s.Report("a", NoFamily.Finding("IPv4", "no IPv4"))
	s.Report("b", NotForwarding.Finding("IPv6", "IPv6 is not forwarded"))
	s.Report("c")
	all := s.All()
	if len(all) != 2 || all[0].ID != "not-forwarding" || all[1].ID != "no-family" {
		t.Errorf("findings %+v, want the warning and then the note", all)
	}
}
