package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Error is an answer with a status other than 200.
type Error struct {
	Status  int    `json:"-"` // of HTTP
	Message string `json:"error"`
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%s (status %d)", e.Message, e.Status) }

// Write sends the error to a client. Nothing may have been sent before.
func (e *Error) Write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(e) // the client may have left
}

// maxMessage bounds the part of an error's body that is read, in bytes.
const maxMessage = 4096

// readError reads the error in an answer. A body that is not an [Error], such as
// that of net/http itself, is its message as it stands, on one line.
func readError(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxMessage)) // the status says enough
	e := &Error{}
	if json.Unmarshal(b, e) != nil || e.Message == "" {
		e.Message = string(b)
	}
	e.Message = cmp.Or(strings.Join(strings.Fields(e.Message), " "), http.StatusText(resp.StatusCode), "no message")
	e.Status = resp.StatusCode
	return e
}
