//go:build linux

package mptcp

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// objects are the committed programs, for both byte orders.
var objects = []string{"window_bpfel.o", "window_bpfeb.o", "segments_bpfel.o", "segments_bpfeb.o"}

// sums reads SHA256SUMS: the hash of each file, and the compiler's version.
func sums(t *testing.T) (hashes map[string]string, compiler string) {
	t.Helper()
	b, err := os.ReadFile("SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	hashes = make(map[string]string)
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if version, ok := strings.CutPrefix(line, "# "); ok {
			compiler = version
		} else if hash, name, ok := strings.Cut(line, "  "); ok {
			hashes[name] = hash
		}
	}
	return hashes, compiler
}

func TestCommittedObjectsBelongToTheCommittedSources(t *testing.T) {
	hashes, _ := sums(t)
	sources, err := filepath.Glob("bpf/*")
	if err != nil {
		t.Fatal(err)
	}
	files := append(sources, objects...)
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(b)); got != hashes[name] {
			t.Errorf("%s has changed since the objects were made: run `make generate`", name)
		}
	}
	if len(hashes) != len(files) {
		t.Errorf("SHA256SUMS lists %d files, want %q", len(hashes), files)
	}
}

func TestClangMakesTheCommittedObjects(t *testing.T) {
	_, compiler := sums(t)
	for _, tool := range []string{"go", "clang", "llvm-strip"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("cannot compare the objects with those that clang makes: %v", err)
		}
	}
	out, err := exec.Command("clang", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if version, _, _ := strings.Cut(string(out), "\n"); version != compiler {
		t.Skipf("cannot compare the objects, by %s, with those of this %s", compiler, version)
	}
	dir := t.TempDir()
	for _, name := range []string{"window", "segments"} {
		cmd := exec.Command("go", "tool", "bpf2go", "-output-dir", dir, "-go-package", "mptcp", name, "bpf/"+name+".bpf.c", "--", "-Wall", "-Wextra", "-Werror")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	made, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range made {
		want, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("clang makes another %s", f.Name())
		}
	}
	if len(made) != 8 { // of each program an object and its Go file for each byte order
		t.Errorf("bpf2go makes %d files, want 8", len(made))
	}
}

func TestObjectsOfBothByteOrdersHoldTheSameProgram(t *testing.T) {
	for _, name := range []string{"window_bpfel.o", "window_bpfeb.o"} {
		t.Run(name, func(t *testing.T) {
			spec, err := ebpf.LoadCollectionSpec(name)
			if err != nil {
				t.Fatal(err)
			}
			program := spec.Programs[windowProgSynbondWindow]
			if program.Type != ebpf.SockOps || program.License != "Dual MIT/GPL" {
				t.Errorf("a program of type %v with the licence %q", program.Type, program.License)
			}
			windows := spec.Maps[windowMapSynbondWindows]
			if windows.Type != ebpf.LRUHash || windows.KeySize != 32 || windows.ValueSize != 4 || windows.MaxEntries != 4096 {
				t.Errorf("the map of learnt windows is %v", windows)
			}
			if got, want := relocations(t, program), []string{"byte_off=0->1464"}; !slices.Equal(got, want) {
				t.Errorf("the loader changes %q, want %q", got, want)
			}
		})
	}
}

func TestObjectsOfBothByteOrdersLimitSegments(t *testing.T) {
	for _, name := range []string{"segments_bpfel.o", "segments_bpfeb.o"} {
		spec, err := ebpf.LoadCollectionSpec(name)
		if err != nil {
			t.Fatal(err)
		}
		program := spec.Programs[segmentsProgSynbondLimit]
		if program.Type != ebpf.SockOps || program.License != "Dual MIT/GPL" {
			t.Errorf("%s: a program of type %v with the licence %q", name, program.Type, program.License)
		}
		limits := spec.Maps[segmentsMapSynbondSegments]
		if limits.Type != ebpf.SkStorage || limits.KeySize != 4 || limits.ValueSize != 4 {
			t.Errorf("%s: the map of limits is %v", name, limits)
		}
		if got := relocations(t, program); len(got) != 0 { // it looks into no structure of the kernel
			t.Errorf("%s: the loader changes %q", name, got)
		}
	}
}

// relocations returns the changes that the loader makes to the program for a kernel
// whose struct mptcp_sock has its member first at offset 1464.
func relocations(t *testing.T, program *ebpf.ProgramSpec) (changes []string) {
	t.Helper()
	var asked []*btf.CORERelocation
	for i := range program.Instructions {
		if r := btf.CORERelocationMetadata(&program.Instructions[i]); r != nil {
			asked = append(asked, r)
		}
	}
	b, err := btf.NewBuilder([]btf.Type{&btf.Struct{Name: "mptcp_sock", Size: 2000, Members: []btf.Member{
		{Name: "sk", Type: &btf.Struct{Name: "inet_connection_sock", Size: 1464}},
		{Name: "first", Type: &btf.Pointer{Target: &btf.Fwd{Name: "sock"}}, Offset: 1464 * 8},
	}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, &btf.MarshalOptions{Order: program.ByteOrder})
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	fixups, err := btf.CORERelocate(asked, []*btf.Spec{kernel}, program.ByteOrder, b.Add)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fixups {
		changes = append(changes, f.String())
	}
	return changes
}
