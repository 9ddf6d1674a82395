//go:build linux

package mptcp

// The objects are committed, for both byte orders, so that a build needs no clang.
// SHA256SUMS holds the version of clang and the checksums of sources and objects. A test
// compares the checksums, and with the same clang also compiles the objects again.
//
//go:generate go tool bpf2go window bpf/window.bpf.c -- -Wall -Wextra -Werror
//go:generate go tool bpf2go segments bpf/segments.bpf.c -- -Wall -Wextra -Werror
//go:generate sh -c "{ clang --version | sed '1s/^/# /;q'; sha256sum bpf/*.bpf.c bpf/kernel.h *_bpfel.o *_bpfeb.o; } >SHA256SUMS"
