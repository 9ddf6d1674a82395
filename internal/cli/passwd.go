package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/synbond/synbond/internal/users"
)

// passwdCommand prints a line of the users' file. It needs no privilege.
func passwdCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "passwd USER",
		Short:   "print a user's line for the users' file of a gateway; the password comes from standard input",
		Example: "  (umask 077; synbond passwd alice >> /etc/synbond/users)",
		Args:    oneArgument("a user name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := users.CheckName(args[0]); err != nil {
				return usageError{err}
			}
			password, err := readPassword(cmd.Context(), cmd.InOrStdin(), cmd.ErrOrStderr())
			defer clear(password)
			if err != nil {
				return err
			}
			line, err := users.Line(args[0], password)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), line)
			return err
		},
	}
}

// readPassword asks for a password twice if in is a terminal, and else reads it as the only
// line of in. Prompts go to w, as the command's output may go to a file.
func readPassword(ctx context.Context, in io.Reader, w io.Writer) ([]byte, error) {
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return askTwice(ctx, int(f.Fd()), w)
	}
	return readLine(in)
}

// maxInput (bytes) is more than any password that can be set.
const maxInput = 4096

// readLine reads the only line of in.
func readLine(in io.Reader) ([]byte, error) {
	b := make([]byte, maxInput) // of its full size: a slice that grows leaves copies
	n, err := io.ReadFull(in, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		clear(b)
		return nil, fmt.Errorf("password: %w", err)
	}
	line := bytes.TrimSuffix(bytes.TrimSuffix(b[:n], []byte("\n")), []byte("\r"))
	if bytes.ContainsAny(line, "\r\n") {
		clear(b)
		return nil, errors.New("password: more than one line on standard input")
	}
	return line, nil
}

// askTwice asks for a password and for its repetition on a terminal.
func askTwice(ctx context.Context, fd int, w io.Writer) ([]byte, error) {
	first, err := prompt(ctx, fd, w, "Password: ")
	if err != nil {
		return nil, err
	}
	second, err := prompt(ctx, fd, w, "Password again: ")
	defer clear(second)
	if err == nil && !bytes.Equal(first, second) {
		err = errors.New("the two passwords differ")
	}
	if err != nil {
		clear(first)
		return nil, err
	}
	return first, nil
}

// prompt asks for a password without echo. The end of ctx, such as by Ctrl-C, ends it and
// restores the terminal; the read itself ends with the process.
func prompt(ctx context.Context, fd int, w io.Writer, text string) ([]byte, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("password: %w", err)
	}
	fmt.Fprint(w, text)
	defer fmt.Fprintln(w)
	type answer struct {
		password []byte
		err      error
	}
	answers := make(chan answer, 1)
	go func() {
		password, err := term.ReadPassword(fd)
		answers <- answer{password, err}
	}()
	select {
	case <-ctx.Done():
		return nil, errors.Join(errors.New("interrupted"), term.Restore(fd, before))
	case a := <-answers:
		if a.err != nil {
			return nil, fmt.Errorf("password: %w", a.err)
		}
		return a.password, nil
	}
}
