//go:build linux

package box

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/synbond/synbond/internal/api"
)

func TestControlSocketAnswersInJSONAlsoWithErrors(t *testing.T) {
	b := newBench(t, Config{Role: HAG})
	for _, c := range []struct {
		method, target string
		status         int
		message        string
	}{
		{"GET", api.FlowsRequest(false), 200, ""},
		{"GET", api.FlowsRequest(true), 200, ""},
		{"GET", "/flow", 404, "this box has no GET /flow"},
		{"POST", "/flows", 404, "this box has no POST /flows"},
	} {
		w := httptest.NewRecorder()
		b.controlHandler().ServeHTTP(w, httptest.NewRequest(c.method, c.target, nil))
		var e api.Error
		err := json.Unmarshal(w.Body.Bytes(), &e)
		if err != nil || w.Code != c.status || e.Message != c.message || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: status %d, error %v, %s", c.method, c.target, w.Code, err, w.Body)
		}
	}
}

// fullAnswer is a client that takes no body.
type fullAnswer struct{ http.ResponseWriter }

func (fullAnswer) Write([]byte) (int, error) { return 0, errFull }

func TestIncompleteAnswerEndsTheConnection(t *testing.T) {
	b := newBench(t, Config{Role: CPE})
	defer func() {
		if r := recover(); r != http.ErrAbortHandler {
			t.Errorf("the handler ended with %v", r)
		}
	}()
	b.controlHandler().ServeHTTP(fullAnswer{httptest.NewRecorder()}, httptest.NewRequest("GET", api.FlowsResource, nil))
}
