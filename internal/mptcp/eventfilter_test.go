//go:build linux

package mptcp

import (
	"slices"
	"testing"

	"golang.org/x/net/bpf"
)

func TestEventFilterPassesTheReportedTypesOnly(t *testing.T) {
	program, ok := bpf.Disassemble(onlyReported())
	if !ok {
		t.Fatal("the filter has an unknown instruction")
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	for kind := range EventType(64) {
		b := datagram(kind, []byte{1, 2, 3, 4})
		n, err := vm.Run(b)
		if err != nil {
			t.Fatal(err)
		}
		if want := slices.Contains(reported, kind); (n >= len(b)) != want || !want && n != 0 {
			t.Errorf("type %d: %d of %d bytes pass, want all: %v", kind, n, len(b), want)
		}
	}
	if n, err := vm.Run(datagram(Established)[:16]); n != 0 || err != nil {
		t.Errorf("a datagram without a type: %d bytes pass, %v", n, err)
	}
}
