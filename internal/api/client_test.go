package api

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// box serves a control socket with a handler for the time of a test.
func box(t *testing.T, handler http.HandlerFunc) Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "box.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.Server{Listener: l, Config: &http.Server{Handler: handler}}
	s.Start()
	t.Cleanup(s.Close)
	return Client{Socket: socket}
}

func TestClientAsksForFlowsAndPaths(t *testing.T) {
	var asked []string
	c := box(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.String())
		_, _ = w.Write([]byte(`{"role":"cpe","flows":[{"client":"[2001:db8::1]:7"}],"paths":[{"name":"dsl"}],"a key of a newer box":1}`))
	})
	for _, all := range []bool{false, true} {
		d, err := c.Flows(t.Context(), all)
		if err != nil || d.Role != "cpe" || len(d.Flows) != 1 || d.Flows[0].Client.Port() != 7 {
			t.Errorf("all %v: %+v, error %v", all, d, err)
		}
	}
	p, err := c.Paths(t.Context())
	if err != nil || len(p.Paths) != 1 || p.Paths[0].Name != "dsl" || p.Paths[0].PathState != nil {
		t.Errorf("%+v, error %v", p, err)
	}
	if got, want := strings.Join(asked, ", "), "GET /flows, GET /flows?all, GET /paths"; got != want {
		t.Errorf("asked for %s, want %s", got, want)
	}
}

func TestOtherStatusThan200IsATypedErrorOfOneLine(t *testing.T) {
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		want    Error
	}{
		{"an error of the box", (&testError{Error{503, "the box is shutting down"}}).ServeHTTP, Error{503, "the box is shutting down"}},
		{"an error of net/http", http.NotFound, Error{404, "404 page not found"}},
		{"several lines", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "one\n two\n", 500) }, Error{500, "one two"}},
		{"no body", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, Error{404, "Not Found"}},
		{"an unknown status without a body", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(299) }, Error{299, "no message"}},
	} {
		_, err := box(t, c.handler).Paths(t.Context())
		var got *Error
		if !errors.As(err, &got) || *got != c.want || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want %v", c.name, err, &c.want)
		}
	}
}

// testError answers every request with an error.
type testError struct{ Error }

func (e *testError) ServeHTTP(w http.ResponseWriter, _ *http.Request) { e.Write(w) }

func TestErrorsNameTheSocket(t *testing.T) {
	absent := Client{Socket: filepath.Join(t.TempDir(), "absent.sock")}
	aborts := box(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"role":`))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	for _, c := range []struct {
		name   string
		client Client
		want   string
	}{
		{"no socket", absent, "no box answers at " + absent.Socket + ": dial unix"},
		{"half an answer", aborts, "the answer of the box at " + aborts.Socket + " is incomplete"},
	} {
		if _, err := c.client.Paths(t.Context()); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %s", c.name, err, c.want)
		}
	}
	if _, err := absent.Paths(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no socket: error %v wraps no fs.ErrNotExist", err)
	}
}

func TestAnswerThatIsNotJSONIsAnError(t *testing.T) {
	c := box(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) })
	if _, err := c.Paths(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot be read by this version") {
		t.Errorf("error %v", err)
	}
}

func TestGetEndsWithItsContext(t *testing.T) {
	release := make(chan struct{})
	c := box(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Paths(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}
