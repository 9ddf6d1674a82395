package rewrite

import (
	"bytes"
	"reflect"
	"testing"
)

type appender interface {
	Append([]byte) []byte
	Len() int
}

// fuzzParser tests a parser on any bytes: Append of a parsed value returns the same
// bytes, and an error comes with the zero value. The seeds are the options of all
// types.
func fuzzParser[T appender](f *testing.F, parse func([]byte) (T, error)) {
	for _, e := range elements() {
		f.Add(e.value.Append(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		v, err := parse(raw)
		if err != nil {
			var zero T
			if err != BadOption || !reflect.DeepEqual(v, zero) {
				t.Fatalf("%x: got %+v, %v", raw, v, err)
			}
			return
		}
		made := v.Append(nil)
		if !bytes.Equal(made, raw) || v.Len() != len(raw) || !bytes.Equal(before, raw) {
			t.Fatalf("%x: parsed %+v, Len %d, Append %x", before, v, v.Len(), made)
		}
		if again, err := parse(made); err != nil || !reflect.DeepEqual(again, v) {
			t.Fatalf("%x: got %+v, %v; want %+v", made, again, err, v)
		}
	})
}

func FuzzMSS(f *testing.F)            { fuzzParser(f, ParseMSS) }
func FuzzWindowScale(f *testing.F)    { fuzzParser(f, ParseWindowScale) }
func FuzzSACKPermitted(f *testing.F)  { fuzzParser(f, ParseSACKPermitted) }
func FuzzSACK(f *testing.F)           { fuzzParser(f, ParseSACK) }
func FuzzTimestamps(f *testing.F)     { fuzzParser(f, ParseTimestamps) }
func FuzzFastOpen(f *testing.F)       { fuzzParser(f, ParseFastOpen) }
func FuzzMPCapable(f *testing.F)      { fuzzParser(f, ParseMPCapable) }
func FuzzMPJoinSYN(f *testing.F)      { fuzzParser(f, ParseMPJoinSYN) }
func FuzzMPJoinSYNACK(f *testing.F)   { fuzzParser(f, ParseMPJoinSYNACK) }
func FuzzMPJoinACK(f *testing.F)      { fuzzParser(f, ParseMPJoinACK) }
func FuzzDSS(f *testing.F)            { fuzzParser(f, ParseDSS) }
func FuzzAddAddr(f *testing.F)        { fuzzParser(f, ParseAddAddr) }
func FuzzRemoveAddr(f *testing.F)     { fuzzParser(f, ParseRemoveAddr) }
func FuzzMPPrio(f *testing.F)         { fuzzParser(f, ParseMPPrio) }
func FuzzMPFail(f *testing.F)         { fuzzParser(f, ParseMPFail) }
func FuzzMPFastclose(f *testing.F)    { fuzzParser(f, ParseMPFastclose) }
func FuzzMPTCPRST(f *testing.F)       { fuzzParser(f, ParseMPTCPRST) }
func FuzzMPExperimental(f *testing.F) { fuzzParser(f, ParseMPExperimental) }

// FuzzOption tests the parsers through the selection by kind and subtype.
func FuzzOption(f *testing.F) {
	fuzzParser(f, func(raw []byte) (*Option, error) {
		o := new(Option)
		if err := o.Parse(raw); err != nil {
			return nil, err
		}
		return o, nil
	})
}

// FuzzOptions tests that WalkOptions yields every byte of a list once, up to an error.
func FuzzOptions(f *testing.F) {
	for _, e := range elements() {
		f.Add(cat(usual, e.wire))
		f.Add(cat(timestamp, e.wire, nop, e.wire))
	}
	f.Fuzz(func(t *testing.T, list []byte) {
		walk, o := WalkOptions(list), Option{}
		var made []byte
		var all []Option
		for walk.Next(&o) {
			made = o.Append(made)
			all = append(all, o)
		}
		if (walk.Err() != nil) != (len(walk.Rest()) > 0) || walk.Err() != nil && walk.Err() != BadOption {
			t.Fatalf("%x: error %v, rest %x", list, walk.Err(), walk.Rest())
		}
		if !bytes.Equal(cat(made, walk.Rest()), list) {
			t.Fatalf("%x: the elements %x and the rest %x differ from the list", list, made, walk.Rest())
		}
		whole, err := AppendOptions(nil, all)
		if len(made) > maxOptionsSize {
			if err != NoOptionSpace || whole != nil {
				t.Fatalf("%d bytes: got %x, %v", len(made), whole, err)
			}
			return
		}
		if err != nil || len(whole)%4 != 0 || !bytes.HasPrefix(whole, made) || len(whole) > len(made)+3 {
			t.Fatalf("AppendOptions of %x: got %x, %v", made, whole, err)
		}
	})
}
