package config

import (
	"bytes"
	"fmt"
	"os"
	"regexp"

	"github.com/pelletier/go-toml/v2"
)

// redacted stands for a secret.
const redacted = "(left out)"

// secretKeys match keys whose values are secrets, in any table.
var secretKeys = regexp.MustCompile(`(?i)secret|password|passwd|passphrase|token|credential|private`)

// userInfo matches the name and the password in a URL.
var userInfo = regexp.MustCompile(`(://)[^/@\s"']*@`)

// passwordInURL matches the password in a URL, up to the last @: some have one in it.
var passwordInURL = regexp.MustCompile(`(://[^:/@\s"']*:)[^\s"']*@`)

// WithoutPassword returns a text without the password that a URL in it may have.
func WithoutPassword(text string) string {
	return passwordInURL.ReplaceAllString(text, "${1}"+redacted+"@")
}

// Redact returns the content of a configuration file without secrets and comments, and the
// secrets. A file that is no TOML is an error: nobody could tell what is a secret in it.
func Redact(file string) (text []byte, secrets []string, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, fmt.Errorf("configuration: %w", err)
	}
	var all map[string]any
	if err := toml.Unmarshal(b, &all); err != nil {
		return nil, nil, fmt.Errorf("%s: no TOML, so its secrets are unknown", file)
	}
	redact(all, &secrets)
	var out bytes.Buffer
	if err := toml.NewEncoder(&out).Encode(all); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	return userInfo.ReplaceAll(out.Bytes(), []byte("${1}"+redacted+"@")), secrets, nil
}

// redact replaces secrets in a value, and collects them.
func redact(v any, secrets *[]string) {
	switch x := v.(type) {
	case map[string]any:
		for key, value := range x {
			text, isText := value.(string)
			switch {
			case !secretKeys.MatchString(key):
				redact(value, secrets)
				continue
			case isText && text != "":
				*secrets = append(*secrets, text)
			}
			x[key] = redacted
		}
	case []any:
		for _, item := range x {
			redact(item, secrets)
		}
	}
}
