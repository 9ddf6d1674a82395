package rewrite_test

import (
	"encoding/hex"
	"fmt"
	"log"
	"net/netip"
	"strings"

	"github.com/synbond/synbond/rewrite"
)

// A SYN as Linux sends it without MPTCP, over IPv4, from its IP header on.
const syn = `
	4500003c 12344000 40063c51 c0000201 c6336402          192.0.2.1 > 198.51.100.2
	c00001bb 01020304 00000000 a002faf0 9b150000          49152 > 443, SYN
	020405b4 0402080a 00000001 00000000 01030307          MSS, SACK permitted, timestamps, NOP, window scale`

// A SYN+ACK with MP_CAPABLE of version 1, over IPv6.
const synack = `
	60000000 00340640                                     payload of 52 bytes, TCP
	20010db8 00020000 00000000 00000002                   2001:db8:2::2
	20010db8 00010000 00000000 00000001                   2001:db8:1::1
	01bbc000 01020304 05060708 d012faf0 7fc90000          443 > 49152, SYN+ACK
	020405b4 0402080a 00000001 00000000 01030307          MSS, SACK permitted, timestamps, NOP, window scale
	1e0c0181 11121314 15161718                            MP_CAPABLE: version 1, flags A and H, key`

// bytesOf returns the bytes of a packet in the notation above.
func bytesOf(text string) (b []byte) {
	for line := range strings.Lines(text) {
		digits, _, _ := strings.Cut(strings.TrimSpace(line), "  ")
		part, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
		if err != nil {
			log.Fatal(err)
		}
		b = append(b, part...)
	}
	return b
}

// Parse a packet of a capture, and read its MPTCP option.
func ExampleSegment_MPTCP() {
	var s rewrite.Segment
	if err := s.Parse(bytesOf(synack)); err != nil {
		log.Fatal(err)
	}
	m, err := s.MPTCP()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.Src, ">", s.Dst, s.Flags)
	if m.Capable {
		fmt.Printf("MP_CAPABLE version %d, key %#x, token %#x\n", m.Version, m.SenderKey, rewrite.Token(m.SenderKey, m.Version))
		fmt.Println("DSS checksums required:", m.CapableFlags&rewrite.CapableChecksum != 0)
	}
	// Output:
	// [2001:db8:2::2]:443 > [2001:db8:1::1]:49152 SYN|ACK
	// MP_CAPABLE version 1, key 0x1112131415161718, token 0xccad45ac
	// DSS checksums required: true
}

// Add MP_CAPABLE of version 1 to a SYN, and take it out again.
func ExampleSegment_Add() {
	var s rewrite.Segment
	if err := s.Parse(bytesOf(syn)); err != nil {
		log.Fatal(err)
	}
	var scratch [40]byte
	option := rewrite.MPCapable{Version: 1, Flags: rewrite.CapableHMACSHA}.Append(scratch[:0])
	added, err := s.Add(nil, option)
	if err != nil {
		log.Fatal(err)
	}
	if err := s.Parse(added); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d bytes, options %x, checksum correct: %t\n", len(added), s.Options, s.ChecksumOK())

	back, err := s.Strip(nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d bytes, equal to the first SYN: %t\n", len(back), string(back) == string(bytesOf(syn)))
	// Output:
	// 64 bytes, options 020405b40402080a0000000100000000010303071e040101, checksum correct: true
	// 60 bytes, equal to the first SYN: true
}

// Add returns a [rewrite.Reason] as its error.
func ExampleSegment_Add_refused() {
	var s rewrite.Segment
	if err := s.Parse(bytesOf(synack)); err != nil {
		log.Fatal(err)
	}
	_, err := s.Add(nil, rewrite.MPCapable{Version: 1, Flags: rewrite.CapableHMACSHA}.Append(nil))
	fmt.Println(err, err == rewrite.NotSYN)
	// Output:
	// not-syn true
}

// Strip MP_CAPABLE from a SYN+ACK. The packet keeps its length.
func ExampleSegment_Strip() {
	before := bytesOf(synack)
	var s rewrite.Segment
	if err := s.Parse(before); err != nil {
		log.Fatal(err)
	}
	after, err := s.Strip(nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d bytes: %x\n", len(before), s.Options)
	if err := s.Parse(after); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d bytes: %x\n", len(after), s.Options)
	// Output:
	// 92 bytes: 020405b40402080a0000000100000000010303071e0c01811112131415161718
	// 92 bytes: 020405b40402080a000000010000000001030307010101010101010101010101
}

// List the options of a segment.
func ExampleWalkOptions() {
	var s rewrite.Segment
	if err := s.Parse(bytesOf(synack)); err != nil {
		log.Fatal(err)
	}
	var o rewrite.Option
	walk := rewrite.WalkOptions(s.Options)
	for walk.Next(&o) {
		switch o.Type {
		case rewrite.OptionMSS:
			fmt.Println(o.Type, o.MSS)
		case rewrite.OptionMPCapable:
			fmt.Printf("%v version %d\n", o.Type, o.MPCapable.Version)
		default:
			fmt.Printf("%v, %d bytes\n", o.Type, o.Len())
		}
	}
	fmt.Println("error:", walk.Err())
	// Output:
	// MSS 1460
	// SACK permitted, 2 bytes
	// timestamps, 10 bytes
	// NOP, 1 bytes
	// window scale, 3 bytes
	// MP_CAPABLE version 1
	// error: <nil>
}

// Build an option and parse it.
func ExampleParseMPJoinSYN() {
	option := rewrite.MPJoinSYN{Backup: true, AddressID: 2, Token: 0x01234567, Nonce: 0x89abcdef}.Append(nil)
	fmt.Printf("%x\n", option)

	join, err := rewrite.ParseMPJoinSYN(option)
	fmt.Println(join.Backup, join.AddressID, err)

	_, err = rewrite.ParseMPJoinSYN(option[:11])
	fmt.Println(err)
	// Output:
	// 1e0c11020123456789abcdef
	// true 2 <nil>
	// bad-option
}

// Build a whole option list, padded to whole words.
func ExampleAppendOptions() {
	list, err := rewrite.AppendOptions(nil, []rewrite.Option{
		{Type: rewrite.OptionMSS, MSS: 1440},
		{Type: rewrite.OptionWindowScale, WindowScale: 7},
		{Type: rewrite.OptionMPCapable, MPCapable: rewrite.MPCapable{Version: 1, Flags: rewrite.CapableHMACSHA}},
	})
	fmt.Printf("%x %v\n", list, err)
	// Output:
	// 020405a00303071e04010100 <nil>
}

// Compute and verify the HMAC of an announced address.
func ExampleAddAddr() {
	const server, client = 15636777894313208498, 7947081173601229856 // the keys of the two hosts
	a := rewrite.AddAddr{Version: 1, AddressID: 6, Address: netip.MustParseAddr("192.0.2.2")}
	a.HMAC = a.MakeHMAC(server, client) // the sender's key first
	fmt.Printf("%x\n", a.Append(nil))
	fmt.Println(a.Verify(server, client))
	// Output:
	// 1e103006c0000202967fc0710a88a546
	// true
}
