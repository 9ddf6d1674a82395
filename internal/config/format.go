package config

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"unicode"
)

// format is the form of a text, as the tag format names it; "" permits any text.
type format string

const (
	isInterface format = "interface" // name of a network interface
	isListener  format = "listener"  // address and port to listen at, or ""
	isSocket    format = "socket"    // path of a unix socket
	isFolder    format = "folder"
	isName      format = "name" // of hosts: example.com, or *.example.com for all below it
)

// Longest texts, without the zero behind them.
const (
	longestInterface = 15  // uapi linux/if.h: IFNAMSIZ
	longestSocket    = 107 // uapi linux/un.h: UNIX_PATH_MAX
)

// check reports a text that is not of the format.
func (f format) check(text string) error {
	switch f {
	case isInterface:
		// Kernel: dev_valid_name.
		odd := strings.ContainsFunc(text, func(r rune) bool { return r == '/' || r == ':' || unicode.IsSpace(r) })
		if text == "" || text == "." || text == ".." || odd || len(text) > longestInterface {
			return fmt.Errorf("want an interface: a name without spaces, / and : of at most %d characters", longestInterface)
		}
	case isListener:
		_, port, err := net.SplitHostPort(text)
		if _, err2 := net.LookupPort("tcp", port); text != "" && errors.Join(err, err2) != nil {
			return errors.New("want an address with its port, such as 127.0.0.1:9100 or [::1]:9100")
		}
	case isSocket:
		if text == "" || len(text) > longestSocket {
			return fmt.Errorf("want the path of a socket, at most %d characters", longestSocket)
		}
	case isName:
		labels := strings.TrimPrefix(text, "*.")
		odd := strings.ContainsFunc(labels, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
		})
		if labels == "" || odd || strings.HasPrefix(labels, ".") || strings.HasSuffix(labels, ".") || strings.Contains(labels, "..") {
			return errors.New("want a name in lower case such as example.com, or *.example.com for all names below it")
		}
	case isFolder:
		if text == "" {
			return errors.New("want the path of a folder")
		}
	}
	return nil
}

// ParseSocket reads the path of a unix socket.
func ParseSocket(path string) (string, error) { return path, isSocket.check(path) }

// ParseInterface reads the name of an interface.
func ParseInterface(name string) (string, error) { return name, isInterface.check(name) }
