package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudoterminal: the side of a person, and that of a program.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	fd := int(person.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// typist is the writer of prompts, who types the next answer to each of them.
type typist struct {
	bytes.Buffer
	person  *os.File
	program *os.File
	answers []string
}

func (w *typist) Write(b []byte) (int, error) {
	if bytes.HasSuffix(b, []byte(": ")) && len(w.answers) > 0 {
		answer := w.answers[0]
		w.answers = w.answers[1:]
		go func() {
			w.awaitSilence()
			fmt.Fprintln(w.person, answer)
		}()
	}
	return w.Buffer.Write(b)
}

// awaitSilence awaits the end of echo on the terminal.
func (w *typist) awaitSilence() {
	for {
		termios, err := unix.IoctlGetTermios(int(w.program.Fd()), unix.TCGETS)
		if err != nil || termios.Lflag&unix.ECHO == 0 {
			return
		}
	}
}

func TestPasswdAsksTwiceWithoutEcho(t *testing.T) {
	for _, c := range []struct {
		answers []string
		says    string // "" for a success
	}{
		{[]string{"secret", "secret"}, ""},
		{[]string{"secret", "Secret"}, "the two passwords differ"},
	} {
		person, program := terminal(t)
		w := &typist{person: person, program: program, answers: c.answers}
		password, err := readPassword(context.Background(), program, w)
		switch {
		case c.says == "" && (err != nil || string(password) != "secret"):
			t.Errorf("%q, %v", password, err)
		case c.says != "" && (err == nil || err.Error() != c.says || password != nil):
			t.Errorf("%q, %v, want %q", password, err, c.says)
		}
		if got := w.String(); got != "Password: \nPassword again: \n" {
			t.Errorf("prompts %q", got)
		}
		fmt.Fprintln(program, "over")
		if shown, err := bufio.NewReader(person).ReadString('r'); err != nil || strings.Contains(strings.ToLower(shown), "secret") {
			t.Errorf("the terminal shows %q, %v", shown, err)
		}
	}
}

func TestPasswdRestoresTheTerminalWhenItIsInterrupted(t *testing.T) {
	person, program := terminal(t)
	before, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancelCause(context.Background())
	w := &typist{person: person, program: program}
	go func() {
		w.awaitSilence()
		interrupt(errors.New("Ctrl-C"))
	}()
	if password, err := readPassword(ctx, program, w); err == nil || password != nil {
		t.Errorf("%q, %v", password, err)
	}
	after, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err != nil || after.Lflag != before.Lflag {
		t.Errorf("flags %#x, before %#x, %v", after.Lflag, before.Lflag, err)
	}
	fmt.Fprintln(person) // ends the read
}
