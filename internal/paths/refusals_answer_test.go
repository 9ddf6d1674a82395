package paths

import (
	"syscall"
	"testing"
)

func TestRefusalSaysWhatAnswers(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{
		0:                    "subflows are refused: the answer is not the HAG's", // of an orderly close: no MP_JOIN, or a wrong HMAC
		syscall.ECONNREFUSED: "subflows are refused: reset",
		syscall.ECONNRESET:   "subflows are refused: reset",
		syscall.ETIMEDOUT:    "subflows are refused: no answer",
		syscall.EACCES:       "subflows are refused: permission denied",
		syscall.EHOSTUNREACH: "subflows are refused: no route to host",
		syscall.ESRCH:        "", // of the connection, not of the path
		syscall.EINVAL:       "",
		syscall.ENOTCONN:     "",
	} {
		got, refused := refusalOf(errno)
		if got.Reason != want || refused != (want != "") || refused && got.Likely == "" {
			t.Errorf("%v: %+v, %v, want the reason %q", errno, got, refused, want)
		}
	}
}
