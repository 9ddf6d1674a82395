//go:build linux

package tests

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/synbond/synbond/"

// Modules that several rooms may import.
const (
	netlinkLib    = "github.com/mdlayher/netlink"
	routingLib    = "github.com/vishvananda/netlink"
	genetlinkLib  = "github.com/mdlayher/genetlink"
	nftablesLib   = "github.com/google/nftables"
	nfqueueLib    = "github.com/florianl/go-nfqueue/v2"
	sysLib        = "golang.org/x/sys"
	syncLib       = "golang.org/x/sync"
	prometheusLib = "github.com/prometheus/client_golang"
	bpfLib        = "github.com/cilium/ebpf"
	filterLib     = "golang.org/x/net" // classic BPF
)

// rooms lists the imports that each package may have beside the standard library: packages
// of this module by their folder, and others by their module. Nil allows all.
var rooms = map[string][]string{
	"rewrite":          {},
	"state":            {"rewrite"},
	"nfq":              {"internal/nl", netlinkLib, routingLib, nftablesLib, nfqueueLib, sysLib},
	"relay":            {sysLib, syncLib},
	"internal/nl":      {netlinkLib, sysLib},
	"internal/paths":   {},
	"internal/encap":   {},
	"internal/probe":   {"internal/encap", "internal/paths", sysLib, syncLib},
	"internal/host":    {"nfq", "internal/ruleset", "internal/paths", "internal/nl", netlinkLib, routingLib, filterLib, sysLib},
	"internal/mptcp":   {"internal/paths", "internal/nl", "internal/host", netlinkLib, genetlinkLib, bpfLib, filterLib, sysLib, syncLib},
	"internal/ruleset": {netlinkLib, nftablesLib, sysLib},
	"internal/api":     {},
	"internal/core":    {"rewrite", "state"},
	"internal/guard":   {},
	"internal/socks":   {"github.com/things-go/go-socks5"},
	"internal/users":   {"golang.org/x/crypto"},
	"internal/box":     {"internal/api", "internal/core", "internal/encap", "internal/guard", "internal/socks", "internal/users", "state", "nfq", "relay", "internal/mptcp", "internal/paths", "internal/probe", "internal/host", sysLib, syncLib, prometheusLib},
	"pcaps":            {"internal/api", "internal/core", "rewrite", "state", "internal/tap", "github.com/gopacket/gopacket", "github.com/klauspost/compress", "github.com/ulikunitz/xz"},
	"internal/tap":     {sysLib, filterLib},
	"internal/netlab":  {"internal/api", "internal/socks", "nfq", "rewrite", "internal/tap", netlinkLib, routingLib, nftablesLib, sysLib},
	"internal/lab":     {"internal/api", "internal/netlab", "internal/socks", syncLib},
	"internal/config":  {"state", "internal/core", "internal/paths", "internal/box", "github.com/spf13/pflag", "github.com/pelletier/go-toml/v2"},
	"internal/cli":     nil,
	"tests":            nil,
	"tests/bench":      nil,
	"tests/sim":        {"internal/core", "rewrite", "state"},
	"tests/summary":    {},
	".":                {"internal/cli"},

	// Doubles, and helpers of tests.
	"nfq/nfqtest":                {"nfq"},
	"relay/relaytest":            {"relay"},
	"internal/handshaketest":     {"state"},
	"internal/packettest":        {"github.com/gopacket/gopacket"},
	"internal/cli/man":           {"internal/cli", "github.com/spf13/cobra"},
	"internal/netlab/netlabtest": {"internal/netlab", "internal/tooltest", sysLib},
	"internal/tooltest":          {},
}

// imports returns what the files of a folder import that are not tests.
func imports(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			seen[path] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// permitted reports whether a room with that list may import path.
func permitted(allowed []string, path string) bool {
	if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") {
		return true // of the standard library
	}
	own, isOwn := strings.CutPrefix(path, module)
	return slices.ContainsFunc(allowed, func(a string) bool {
		if isOwn {
			return own == a
		}
		return path == a || strings.HasPrefix(path, a+"/")
	})
}

func TestRoomsImportOnlyWhatTheDesignAllows(t *testing.T) {
	found := 0
	err := filepath.WalkDir("..", func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		room, err := filepath.Rel("..", dir)
		if err != nil {
			return err
		}
		if strings.HasPrefix(d.Name(), ".") && room != "." {
			return fs.SkipDir
		}
		paths := imports(t, dir)
		if len(paths) == 0 && room != "tests" {
			return nil // no Go files, or none that import
		}
		found++
		allowed, known := rooms[room]
		if !known {
			t.Errorf("%s is no room of the design", room)
		}
		for _, path := range paths {
			if allowed != nil && !permitted(allowed, path) {
				t.Errorf("%s imports %s", room, path)
			}
			if strings.HasPrefix(path, module) && strings.HasSuffix(path, "test") && !strings.HasSuffix(dir, "test") {
				t.Errorf("%s imports %s, which is for tests", room, path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 8 {
		t.Errorf("only %d rooms found: is this the root of the module?", found)
	}
}

// linuxRooms are the packages that need the kernel of Linux. Each file of theirs says so, doc.go
// and those by tools excepted, so that `go build ./...` and `go vet ./...` work elsewhere, too.
var linuxRooms = []string{
	"nfq", "nfq/nfqtest", "relay", "relay/relaytest", "internal/nl", "internal/probe", "internal/host", "internal/ruleset", "internal/mptcp",
	"internal/box", "internal/tap", "internal/netlab", "internal/netlab/netlabtest", "internal/lab", "tests", "tests/bench",
}

func TestRoomsOfLinuxSaySo(t *testing.T) {
	for _, room := range linuxRooms {
		files, err := filepath.Glob(filepath.Join("..", room, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: files %q, error %v", room, files, err)
		}
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			text := string(b)
			if filepath.Base(name) != "doc.go" && !strings.HasSuffix(name, "_linux.go") && !strings.HasSuffix(name, "_linux_test.go") &&
				!strings.HasPrefix(text, "//go:build linux\n") && !strings.HasPrefix(text, "// Code generated ") {
				t.Errorf("%s does not begin with the line //go:build linux", strings.TrimPrefix(name, "../"))
			}
		}
	}
}
