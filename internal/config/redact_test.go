//go:build linux

package config

import (
	"slices"
	"strings"
	"testing"
)

func TestRedactedFileHasNoSecret(t *testing.T) {
	text := "# my pass is hunter2\nplain = [\"lan\"]\nupstream = \"socks5://jane:hunter2@192.0.2.1:1080\"\n" +
		"[probe]\nsecret = '''hunter2\nagain'''\nevery = \"50ms\"\n[[user]]\nname = \"jane\"\npassword = \"hunter2\"\n[x]\nPassPhrase = [\"hunter2\"]\n"
	got, secrets, err := Redact(write(t, text))
	if err != nil || strings.Contains(string(got), "hunter2") || strings.Contains(string(got), "again") {
		t.Errorf("error %v:\n%s", err, got)
	}
	for _, want := range []string{"every = '50ms'", "plain = ['lan']", "name = 'jane'", redacted} {
		if !strings.Contains(string(got), want) {
			t.Errorf("%s is not in\n%s", want, got)
		}
	}
	slices.Sort(secrets)
	if want := []string{"hunter2", "hunter2\nagain"}; !slices.Equal(secrets, want) {
		t.Errorf("secrets %q, want %q", secrets, want)
	}
	if got, _, err := Redact(write(t, "secret = hunter2")); err == nil || strings.Contains(err.Error()+string(got), "hunter2") {
		t.Errorf("no TOML: error %v: %s", err, got)
	}
}
