package users

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// Hashes of "U*U" (a test vector of crypt_blowfish), in the three versions that are the same.
const (
	vector2a = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
	vector2b = "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
	vector2y = "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
)

func TestReadsUsersAndComments(t *testing.T) {
	text := "# phones\n\nalice:" + vector2a + "\n  bob:" + vector2b + " \r\n# the end\njörg@example.com:" + vector2y
	s, err := parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"alice": vector2a, "bob": vector2b, "jörg@example.com": vector2y} {
		if string(s.hashes[name]) != want {
			t.Errorf("%s: %s", name, s.hashes[name])
		}
		if _, right := s.check(bcrypt.CompareHashAndPassword, name, []byte("U*U")); !right {
			t.Errorf("%s: the password is wrong", name)
		}
	}
	if len(s.hashes) != 3 || s.cost != 5 {
		t.Errorf("%d users, cost %d", len(s.hashes), s.cost)
	}
}

func TestNamesTheLineOfAMistake(t *testing.T) {
	const secret = "xyzzy"
	for _, c := range []struct{ name, line, says string }{
		{"no colon", secret, "want a line USER:HASH"},
		{"no name", ":" + vector2a, "an empty user name"},
		{"a name with a space", "al ice:" + vector2a, `user name "al ice" has the character ' '`},
		{"a name with a control character", "al\x1bice:" + vector2a, `has the character '\x1b'`},
		{"a name that is no UTF-8", "al\xffice:" + vector2a, "is no UTF-8"},
		{"a name of 256 bytes", strings.Repeat("a", 256) + ":" + vector2a, "a user name of 256 bytes: want at most 255"},
		{"hash and name exchanged", vector2a + ":alice", "a user name that begins with $"},
		{"a user twice", "bob:" + vector2a, `user "bob" stands in line 2, too`},
		{"a password in the clear", "alice:" + secret, `user "alice": no hash: want one of bcrypt`},
		{"an empty password", "alice:", `user "alice": no hash`},
		{"DES", "alice:xyzzyuLCwXGeM", "no hash"},
		{"MD5", "alice:$1$" + secret + "$" + secret, "a hash of MD5: want one of bcrypt"},
		{"Apache's MD5", "alice:$apr1$" + secret, "a hash of MD5 of Apache"},
		{"SHA-256", "alice:$5$" + secret, "a hash of SHA-256"},
		{"SHA-512", "alice:$6$" + secret, "a hash of SHA-512"},
		{"yescrypt", "alice:$y$j9T$" + secret, "a hash of yescrypt"},
		{"scrypt", "alice:$7$" + secret, "a hash of scrypt"},
		{"argon2id", "alice:$argon2id$v=19$" + secret, "a hash of argon2id: want one of bcrypt"},
		{"SHA-1", "alice:{SHA}" + secret, "a hash of SHA-1 of LDAP"},
		{"an unknown scheme", "alice:$99$" + secret, "a hash of an unknown scheme"},
		{"bcrypt of the version with a mistake", "alice:$2x$" + vector2a[4:], "bcrypt of a version with a known mistake"},
		{"a hash that is cut off", "alice:" + vector2a[:59], "a damaged hash of bcrypt"},
		{"a hash with a wrong character", "alice:" + vector2a[:20] + "*" + vector2a[21:], "a damaged hash of bcrypt"},
		{"a comment behind the hash", "alice:" + vector2a + " # her phone", "a damaged hash of bcrypt"},
		{"a further field", "alice:" + vector2a + ":5mbit", "more than USER:HASH"},
		{"a cost of 3", "alice:$2a$03" + vector2a[6:], "another cost than 4 to 15"},
		{"a cost of 16", "alice:$2a$16" + vector2a[6:], "another cost than 4 to 15"},
		{"a cost that is no number", "alice:$2a$+5" + vector2a[6:], "another cost than 4 to 15"},
		{"a long line", strings.Repeat("a", maxLine+1), "a line of more than 4096 bytes"},
	} {
		_, err := Open(Config{File: file(t, "# users\nbob:"+vector2b+"\n\n"+c.line+"\n")})
		if err == nil || !strings.Contains(err.Error(), "users:4: ") || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "CCCC")) {
			t.Errorf("%s: a secret is in %q", c.name, err)
		}
	}
}

func TestRefusesAFileThatOthersCanRead(t *testing.T) {
	for mode, right := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: false, 0o644: false, 0o620: false, 0o602: false, 0o604: false, 0o601: false} {
		path := file(t, "alice:"+vector2a+"\n")
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Open(Config{File: path})
		if right && err != nil || !right && (err == nil || !strings.Contains(err.Error(), "chmod 600 "+path)) {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

func TestRefusesWhatIsNoFile(t *testing.T) {
	folder := t.TempDir()
	for path, says := range map[string]string{folder: "is no regular file", filepath.Join(folder, "none"): "no such file", os.DevNull: "is no regular file"} {
		if _, err := Open(Config{File: path}); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestReadsAPasswordToSend(t *testing.T) {
	for _, c := range []struct{ text, password, says string }{
		{"secret\n", "secret", ""}, {"secret", "secret", ""}, {" two words \r\n", " two words ", ""},
		{strings.Repeat("p", 255) + "\n", strings.Repeat("p", 255), ""},
		{"", "", "is empty"}, {"\n", "", "is empty"}, {"one\ntwo\n", "", "has more than one line"},
		{strings.Repeat("p", 256), "", "a line of 256 bytes: want at most 255"}, {strings.Repeat("p", 5000), "", "has 5000 bytes"},
	} {
		password, err := ReadPassword(file(t, c.text))
		if string(password) != c.password || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.20q: %q, %v", c.text, password, err)
		}
	}
	path := file(t, "secret\n")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPassword(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
		t.Error(err)
	}
}

func TestLineIsReadBack(t *testing.T) {
	for _, c := range []struct{ name, password string }{
		{"alice", "secret"}, {"bob", strings.Repeat("p", maxPassword)}, {"carol", "pass word: ü\t"}, {"d", "x"},
	} {
		password := []byte(c.password)
		text, err := Line(c.name, password)
		if err != nil || string(password) != c.password {
			t.Fatalf("%s: %v", c.name, err)
		}
		s, err := parse(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if _, right := s.check(bcrypt.CompareHashAndPassword, c.name, password); !right || s.cost != newCost {
			t.Errorf("%s: right %v, cost %d", c.name, right, s.cost)
		}
	}
}

func TestLineRefusesWhatCannotBeSet(t *testing.T) {
	for _, c := range []struct {
		name, password string
		err            error // nil: any
	}{
		{"alice", "", ErrEmptyPassword}, {"alice", strings.Repeat("p", maxPassword+1), ErrLongPassword}, {"alice", "a\x00a", ErrNULPassword},
		{"", "secret", nil}, {"a:b", "secret", nil}, {"#a", "secret", nil}, {"$a", "secret", nil}, {"a\nb", "secret", nil}, {"a b", "secret", nil},
	} {
		if text, err := Line(c.name, []byte(c.password)); err == nil || c.err != nil && err != c.err || text != "" {
			t.Errorf("%q: %q, %v", c.name, text, err)
		}
	}
}

func TestDummiesAreHashesOfNobody(t *testing.T) {
	for cost := bcrypt.MinCost; cost <= maxCost; cost++ {
		if a, b := dummy(cost), dummy(cost); checkHash(a) != nil || costOf(a) != cost || bytes.Equal(a, b) {
			t.Errorf("cost %d: %s, %s", cost, a, b)
		}
	}
	if err := bcrypt.CompareHashAndPassword(dummy(bcrypt.MinCost), nil); err != bcrypt.ErrMismatchedHashAndPassword {
		t.Error(err) // another error would come before the work
	}
}

// FuzzParse checks that what is read can be written and read again, that no line is read
// whose password could not be checked, and that errors have no more of a line than its name.
func FuzzParse(f *testing.F) {
	f.Add("alice:" + vector2a + "\n# comment\nbob:" + vector2y)
	f.Add("alice:$6$salt$hash\n")
	f.Add(":\n::\n$:$\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parse(strings.NewReader(text))
		if err != nil {
			if s != nil || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%v, %v", s, err)
			}
			return
		}
		var again []string
		for name, hash := range s.hashes {
			if CheckName(name) != nil || checkHash(hash) != nil {
				t.Fatalf("%q:%q is read", name, hash)
			}
			if cost, err := bcrypt.Cost(hash); err != nil || cost != costOf(hash) || cost > s.cost {
				t.Fatalf("%q: cost %d, %v", hash, cost, err)
			}
			again = append(again, name+":"+string(hash))
		}
		slices.Sort(again)
		other, err := parse(strings.NewReader(strings.Join(again, "\n")))
		if err != nil || len(other.hashes) != len(s.hashes) || other.cost != s.cost {
			t.Fatalf("%q: %v", again, err)
		}
	})
}
