package users

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"unicode"
	"unicode/utf8"
)

// Bounds of the file.
const (
	maxFile = 64 << 20 // bytes
	maxLine = 4096     // bytes
	maxName = 255      // bytes (RFC 1929), of a user or a password
)

// openModes are the bits of a file's mode that let others than its owner read or change it.
const openModes = 0o077

// read reads the users' file.
func read(path string) (*set, error) {
	f, err := openPrivate(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("users: %w", err)
	}
	defer f.Close()
	s, err := parse(f)
	if err != nil {
		return nil, fmt.Errorf("users: %s:%w", path, err)
	}
	return s, nil
}

// ReadPassword reads a password to send from a file: its only line, of 1 to 255 bytes (RFC
// 1929). Group and others may not have any right to the file. The caller is to overwrite
// the password after its use.
func ReadPassword(path string) ([]byte, error) {
	f, err := openPrivate(path, maxLine)
	if err != nil {
		return nil, fmt.Errorf("password: %w", err)
	}
	defer f.Close()
	b := make([]byte, maxLine) // of its full size: a slice that grows leaves copies
	n, err := io.ReadFull(f, b)
	line := bytes.TrimSuffix(bytes.TrimSuffix(b[:n], []byte("\n")), []byte("\r"))
	switch {
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("password: %w", err)
	case len(line) == 0:
		err = fmt.Errorf("password: %s is empty", path)
	case bytes.ContainsAny(line, "\r\n"):
		err = fmt.Errorf("password: %s has more than one line", path)
	case len(line) > maxName:
		err = fmt.Errorf("password: %s has a line of %d bytes: want at most %d (RFC 1929)", path, len(line), maxName)
	default:
		return line, nil
	}
	clear(b)
	return nil, err
}

// openPrivate opens a regular file of at most that size to which its owner only has rights.
func openPrivate(path string, size int64) (*os.File, error) {
	// A FIFO without a writer would block.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s is no regular file", path)
	case info.Mode().Perm()&openModes != 0:
		err = fmt.Errorf("%s has mode %04o, so others than its owner can read or change it: chmod 600 %s", path, info.Mode().Perm(), path)
	case info.Size() > size:
		err = fmt.Errorf("%s has %d bytes: want at most %d", path, info.Size(), size)
	default:
		return f, nil
	}
	f.Close()
	return nil, err
}

// parse reads lines name:hash. Empty lines, and those that begin with #, are comments.
// An error begins with the number of its line.
func parse(r io.Reader) (*set, error) {
	s := newSet()
	lines := make(map[string]int)
	in := bufio.NewScanner(io.LimitReader(r, maxFile))
	in.Buffer(nil, maxLine)
	n := 0
	for in.Scan() {
		n++
		line := bytes.TrimSpace(in.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		name, hash, err := parseLine(line)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", n, err)
		}
		if first := lines[name]; first > 0 {
			return nil, fmt.Errorf("%d: user %q stands in line %d, too", n, name, first)
		}
		lines[name] = n
		s.add(name, hash)
	}
	if errors.Is(in.Err(), bufio.ErrTooLong) {
		return nil, fmt.Errorf("%d: a line of more than %d bytes", n+1, maxLine)
	}
	if in.Err() != nil {
		return nil, fmt.Errorf("%d: %w", n+1, in.Err())
	}
	return s, nil
}

// parseLine reads a line name:hash. Its errors have no part of the hash, which may be a
// password.
func parseLine(line []byte) (name string, hash []byte, err error) {
	user, rest, found := bytes.Cut(line, []byte(":"))
	if !found {
		return "", nil, errors.New("want a line USER:HASH, as synbond passwd prints it")
	}
	name = string(user)
	if err := CheckName(name); err != nil {
		return "", nil, err
	}
	if err := checkHash(rest); err != nil {
		return "", nil, fmt.Errorf("user %q: %w", name, err)
	}
	return name, bytes.Clone(rest), nil
}

// CheckName returns an error about a user's name that cannot be in the file: one to 255
// bytes of UTF-8, without spaces, colons and control characters, and neither # nor $ at its
// beginning.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("an empty user name")
	case len(name) > maxName:
		return fmt.Errorf("a user name of %d bytes: want at most %d (RFC 1929)", len(name), maxName)
	case name[0] == '$': // not printed: it may be a hash in the wrong place
		return errors.New("a user name that begins with $, as hashes do")
	case !utf8.ValidString(name):
		return fmt.Errorf("user name %q is no UTF-8", name)
	case name[0] == '#':
		return fmt.Errorf("user name %q begins with #, as comments do", name)
	}
	for _, r := range name {
		if r == ':' || unicode.IsSpace(r) || !unicode.IsGraphic(r) {
			return fmt.Errorf("user name %q has the character %q: want neither spaces, colons nor control characters", name, r)
		}
	}
	return nil
}
