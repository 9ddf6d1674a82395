package cli

import (
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/synbond/synbond/internal/api"
)

// controlSocket serves a control socket for the time of a test, and returns its path.
func controlSocket(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "box.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.Server{Listener: l, Config: &http.Server{Handler: handler}}
	s.Start()
	t.Cleanup(s.Close)
	return path
}

func TestOtherStatusThan200FailsInOneLine(t *testing.T) {
	socket := controlSocket(t, func(w http.ResponseWriter, _ *http.Request) {
		(&api.Error{Status: http.StatusServiceUnavailable, Message: "the box is going down"}).Write(w)
	})
	for _, args := range [][]string{{"flows"}, {"flows", "--json"}, {"flows", "--all", "--watch"}, {"paths"}, {"paths", "--json"}} {
		code, out, errs := run(append(args, "--control", socket)...)
		want := "synbond: the box at " + socket + ": the box is going down (status 503)\n"
		if code != exitFailure || out != "" || errs != want {
			t.Errorf("%v: exit %d, printed %q, %q", args, code, out, errs)
		}
	}
}

func TestJSONIsPrintedAsTheBoxSaysIt(t *testing.T) {
	const answer = `{"flows":[], "a key of a newer box": 1}` + "\n"
	socket := controlSocket(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) })
	for _, about := range []string{"flows", "paths"} {
		if code, out, errs := run(about, "--json", "--control", socket); code != 0 || out != answer {
			t.Errorf("%s: exit %d, printed %q, %q", about, code, out, errs)
		}
	}
}

func TestAnswerOfAnotherVersionFailsInOneLine(t *testing.T) {
	socket := controlSocket(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"flows":{}}`)) })
	code, _, errs := run("flows", "--control", socket)
	if code != exitFailure || !strings.Contains(errs, "cannot be read by this version") || strings.Count(errs, "\n") != 1 {
		t.Errorf("exit %d: %q", code, errs)
	}
}
