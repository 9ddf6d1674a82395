//go:build linux

package tests

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/state"
)

// readDocs returns the Markdown files of the repository by their path from its top.
func readDocs(t *testing.T) map[string]string {
	t.Helper()
	docs := make(map[string]string)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == ".git" {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		docs[filepath.Clean(strings.TrimPrefix(path, "../"))] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

var (
	mdLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	mdHeading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	mdFile    = regexp.MustCompile("`([a-z]+/[a-z0-9_/.-]+\\.(?:go|toml|md|c))`")
)

// anchors returns the fragments by which links reach the headings of a document,
// as GitHub makes them: lower case, spaces to hyphens, without punctuation.
func anchors(text string) map[string]bool {
	all := make(map[string]bool)
	for _, heading := range mdHeading.FindAllStringSubmatch(text, -1) {
		all[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, heading[1])] = true
	}
	return all
}

// TestLinksInDocumentsLeadSomewhere checks the links to files and headings of the
// repository, and its files that are named without a link.
func TestLinksInDocumentsLeadSomewhere(t *testing.T) {
	docs := readDocs(t)
	for name, text := range docs {
		for _, file := range mdFile.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join("..", file[1])); err != nil {
				t.Errorf("%s names %s: %v", name, file[1], err)
			}
		}
		for _, link := range mdLink.FindAllStringSubmatch(text, -1) {
			target, fragment, _ := strings.Cut(link[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := name
			if target != "" {
				path = filepath.Join(filepath.Dir(name), target)
			}
			if _, err := os.Stat(filepath.Join("..", path)); err != nil {
				t.Errorf("%s: link to %s: %v", name, link[1], err)
				continue
			}
			if to, ok := docs[path]; ok && fragment != "" && !anchors(to)[fragment] {
				t.Errorf("%s: link to %s: there is no such heading", name, link[1])
			}
		}
	}
}

// TestDecisionsHaveDateAndStatus checks the form that docs/adr/README.md describes.
func TestDecisionsHaveDateAndStatus(t *testing.T) {
	const most = 40
	date := regexp.MustCompile(`(?m)^- Date: \d{4}-\d{2}-\d{2}`)
	status := regexp.MustCompile(`(?m)^- Status: (accepted|superseded by )`)
	docs := readDocs(t)
	index := docs["docs/adr/README.md"]
	for name, text := range docs {
		if filepath.Dir(name) != "docs/adr" || filepath.Base(name) == "README.md" {
			continue
		}
		if n := strings.Count(text, "\n"); n > most {
			t.Errorf("%s has %d lines, want at most %d: figures belong in docs/measurements", name, n, most)
		}
		if !date.MatchString(text) || !status.MatchString(text) {
			t.Errorf("%s lacks its date or its status", name)
		}
		if !strings.Contains(index, "("+filepath.Base(name)+")") {
			t.Errorf("%s is not listed in docs/adr/README.md", name)
		}
	}
}

// TestEveryReasonIsDocumented compares the table of reasons in the configuration
// reference with package state.
func TestEveryReasonIsDocumented(t *testing.T) {
	var want strings.Builder
	want.WriteString("| reason | fault | meaning |\n|---|---|---|\n")
	for r := state.None + 1; r < state.NumReasons; r++ {
		fault := ""
		if r.IsFault() {
			fault = "yes"
		}
		fmt.Fprintf(&want, "| `%s` | %s | %s |\n", r, fault, r.Meaning())
	}
	if !strings.Contains(readDocs(t)["docs/configuration.md"], want.String()) {
		t.Errorf("docs/configuration.md does not have this table:\n%s", &want)
	}
}

// TestEveryPackageIsInTheArchitecture compares the architecture's tables with those of
// imports_test.go.
func TestEveryPackageIsInTheArchitecture(t *testing.T) {
	text := readDocs(t)["docs/architecture.md"]
	for room := range rooms {
		if room != "." && !strings.Contains(text, "`"+room+"`") {
			t.Errorf("docs/architecture.md does not name %s", room)
		}
	}
}

// TestEveryFindingIsDocumented compares the table of findings with package host.
func TestEveryFindingIsDocumented(t *testing.T) {
	var want strings.Builder
	want.WriteString("| finding | severity | meaning | consequence | remedy |\n|---|---|---|---|---|\n")
	kinds := slices.SortedFunc(slices.Values(host.Kinds()), func(a, b host.Kind) int { return strings.Compare(a.ID, b.ID) })
	for i, k := range kinds {
		if i > 0 && kinds[i-1].ID == k.ID {
			t.Errorf("two kinds of findings are called %s", k.ID)
		}
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s | %s |\n", k.ID, k.Severity, k.Meaning, k.Consequence, k.Remedy)
	}
	if !strings.HasSuffix(readDocs(t)["docs/findings.md"], "\n\n"+want.String()) {
		t.Errorf("docs/findings.md does not end with this table:\n%s", &want)
	}
}
