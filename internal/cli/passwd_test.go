package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/crypto/bcrypt"
)

// passwd runs synbond passwd with that standard input.
func passwd(input string, args ...string) (stdout string, err error) {
	var out, errs bytes.Buffer
	root := Root()
	root.SetIn(strings.NewReader(input))
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs(append([]string{"passwd"}, args...))
	err = root.Execute()
	return out.String(), errors.Join(err, asError(errs.String()))
}

// asError is the text on standard error, which is to be empty.
func asError(text string) error {
	if text == "" {
		return nil
	}
	return errors.New(text)
}

func TestPasswdPrintsALineWithTheHashOfStandardInput(t *testing.T) {
	for input, password := range map[string]string{
		"secret\n": "secret", "secret": "secret", "secret\r\n": "secret", " two words \n": " two words ",
		strings.Repeat("p", 72) + "\n": strings.Repeat("p", 72),
	} {
		out, err := passwd(input, "alice")
		hash, found := strings.CutPrefix(strings.TrimSuffix(out, "\n"), "alice:")
		if err != nil || !found || strings.Count(out, "\n") != 1 {
			t.Fatalf("%q: %q, %v", input, out, err)
		}
		if err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)); err != nil {
			t.Errorf("%q: %v", input, err)
		}
	}
}

func TestPasswdRefusesPasswordsThatCannotBeSet(t *testing.T) {
	for input, says := range map[string]string{
		"": "an empty password", "\n": "an empty password", "one\ntwo\n": "more than one line", strings.Repeat("p", 73) + "\n": "more than 72 bytes",
		strings.Repeat("p", 2*maxInput): "more than 72 bytes", "a\x00b\n": "NUL",
	} {
		out, err := passwd(input, "alice")
		var usage usageError
		if err == nil || out != "" || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "ppp") || errors.As(err, &usage) {
			t.Errorf("%.20q: %q, %v", input, out, err)
		}
	}
	if _, err := readLine(iotest.ErrReader(errors.New("no such device"))); err == nil || !strings.Contains(err.Error(), "no such device") {
		t.Error(err)
	}
}
