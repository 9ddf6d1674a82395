package rewrite

import "testing"

func TestCodecDoesNotAllocate(t *testing.T) {
	all := elements()
	buffer := make([]byte, 0, 64)
	var o Option
	var sink uint64
	if n := testing.AllocsPerRun(100, func() {
		for i := range all {
			if o.Parse(all[i].wire) == nil {
				buffer = o.Append(buffer[:0])
			}
		}
		walk := WalkOptions(usual)
		for walk.Next(&o) {
			sink += uint64(o.Len())
		}
	}); n != 0 {
		t.Errorf("parse and append: %v allocations", n)
	}
	list, err := walked(usual)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		buffer, _ = AppendOptions(buffer[:0], list)
	}); n != 0 {
		t.Errorf("append a list: %v allocations", n)
	}
	add := AddAddr{Version: 1, Address: extra6, HasPort: true}
	for version := range uint8(2) {
		join := Join{version, keyA, keyB, nonce, token}
		if n := testing.AllocsPerRun(100, func() {
			sink += uint64(Token(keyA, version)) + IDSN(keyB, version) + join.TruncatedHMAC() + add.MakeHMAC(keyA, keyB)
			if join.VerifySYNACK(MPJoinSYNACK{}) || join.VerifyACK(MPJoinACK{}) || add.Verify(keyA, keyB) {
				sink++
			}
		}); n != 0 {
			t.Errorf("keys and HMACs of version %d: %v allocations", version, n)
		}
	}
}

func benchmarkLists(b *testing.B, run func(b *testing.B, list []byte)) {
	dss := mptcp(subtypeDSS, 0, []byte{0x0f}, be64(1), be64(2), be32(3), be16(4))
	for _, bb := range []struct {
		name string
		list []byte
	}{
		{"SYN", cat(usual, capableV1SYN)},
		{"data", cat(nop, nop, timestamp, dss)},
		{"join", cat(nop, nop, timestamp, joinACK)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			run(b, bb.list)
		})
	}
}

// BenchmarkWalkOptions parses each option of a list.
func BenchmarkWalkOptions(b *testing.B) {
	benchmarkLists(b, func(b *testing.B, list []byte) {
		var o Option
		for b.Loop() {
			walk := WalkOptions(list)
			for walk.Next(&o) {
			}
			if walk.Err() != nil {
				b.Fatal(walk.Err())
			}
		}
	})
}

// BenchmarkAppendOptions builds an option list.
func BenchmarkAppendOptions(b *testing.B) {
	benchmarkLists(b, func(b *testing.B, list []byte) {
		options, err := walked(list)
		if err != nil {
			b.Fatal(err)
		}
		buffer := make([]byte, 0, maxOptionsSize)
		for b.Loop() {
			if buffer, err = AppendOptions(buffer[:0], options); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkToken(b *testing.B) {
	for version, name := range []string{"v0", "v1"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Token(keyA, uint8(version))
			}
		})
	}
}

func BenchmarkJoinHMAC(b *testing.B) {
	for version, name := range []string{"v0", "v1"} {
		b.Run(name, func(b *testing.B) {
			j := Join{uint8(version), keyA, keyB, nonce, token}
			b.ReportAllocs()
			for b.Loop() {
				j.HMAC()
			}
		})
	}
}
