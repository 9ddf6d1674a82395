package socks

import (
	"bytes"
	"testing"
)

// BenchmarkServer serves a client that sends all of its messages at once.
func BenchmarkServer(b *testing.B) {
	for name, sent := range map[string][]byte{
		"address": cat(greeting(0), connect, ipv4(192, 0, 2, 7), port(443)),
		"user":    cat(greeting(2), login("alice", "secret"), connect, named("example.com"), port(443)),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var out []byte
			for b.Loop() {
				s := NewServer(both)
				var want Want
				out, want = s.Receive(out[:0], bytes.Clone(sent))
				if out, want = drive(s, out, want, true, nil); want != Done {
					b.Fatal(want, s.Err())
				}
			}
		})
	}
}
