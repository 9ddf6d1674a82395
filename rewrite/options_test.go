package rewrite

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// walked returns all elements of a list, and the error of the iteration.
func walked(list []byte) (all []Option, err error) {
	walk, o := WalkOptions(list), new(Option)
	for walk.Next(o) {
		all = append(all, *o)
	}
	return all, walk.Err()
}

func TestWalkOptions(t *testing.T) {
	for _, tt := range []struct {
		name string
		list []byte
		want []OptionType
		err  error
		rest []byte
	}{
		{"an empty list has no options", nil, nil, nil, nil},
		{"every Nop is an element", cat(nop, nop), []OptionType{OptionNop, OptionNop}, nil, nil},
		{"the usual options come in order", usual,
			[]OptionType{OptionMSS, OptionSACKPermitted, OptionTimestamps, OptionNop, OptionWindowScale}, nil, nil},
		{"End includes the bytes behind it", cat(mss, []byte{0, 2, 1, 255}), []OptionType{OptionMSS, OptionEnd}, nil, nil},
		{"MPTCP among others", cat(timestamp, nop, nop, joinACK),
			[]OptionType{OptionTimestamps, OptionNop, OptionNop, OptionMPJoinACK}, nil, nil},
		{"unknown kinds are kept", []byte{253, 4, 1, 2, 99, 2}, []OptionType{OptionUnknown, OptionUnknown}, nil, nil},
		{"a kind without a length", cat(mss, []byte{3}), []OptionType{OptionMSS}, BadOption, []byte{3}},
		{"a length of zero", cat(mss, []byte{3, 0}), []OptionType{OptionMSS}, BadOption, []byte{3, 0}},
		{"a length beyond the list", cat(mss, []byte{3, 4, 7}), []OptionType{OptionMSS}, BadOption, []byte{3, 4, 7}},
		{"a length that its kind does not allow", cat(mss, []byte{2, 3, 0}, sackOK), []OptionType{OptionMSS}, BadOption,
			cat([]byte{2, 3, 0}, sackOK)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			walk, o := WalkOptions(tt.list), Option{}
			var got []OptionType
			for walk.Next(&o) {
				got = append(got, o.Type)
			}
			if !slices.Equal(got, tt.want) || walk.Err() != tt.err || !bytes.Equal(walk.Rest(), tt.rest) {
				t.Errorf("got %v, %v, rest %x; want %v, %v, rest %x", got, walk.Err(), walk.Rest(), tt.want, tt.err, tt.rest)
			}
			if walk.Next(&o) {
				t.Error("Next after the end: true")
			}
		})
	}
}

func TestAppendOptions(t *testing.T) {
	value := func(wire []byte) (o Option) {
		if err := o.Parse(wire); err != nil {
			t.Fatal(err)
		}
		return o
	}
	for _, tt := range []struct {
		name string
		list []Option
		want []byte
		err  error
	}{
		{"nothing is nothing", nil, nil, nil},
		{"whole words stay", []Option{value(mss), value(nop), value(scale)}, cat(mss, nop, scale), nil},
		{"End fills the last word", []Option{value(mss), value(scale)}, cat(mss, scale, []byte{0}), nil},
		{"a lone byte becomes a word", []Option{value(nop)}, []byte{1, 0, 0, 0}, nil},
		{"forty bytes fit", []Option{value(joinACK), value(joinSYNACK)}, cat(joinACK, joinSYNACK), nil},
		{"forty-one do not", []Option{value(joinACK), value(joinSYNACK), value(nop)}, nil, NoOptionSpace},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := AppendOptions([]byte("before"), tt.list)
			if string(got) != "before"+string(tt.want) || err != tt.err {
				t.Errorf("got %x, %v; want %x, %v", got[6:], err, tt.want, tt.err)
			}
		})
	}
}

// AppendOptions of all elements of a random list returns the same list.
func TestAppendOptionsRestoresWalkedLists(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	all := elements()
	for range 5000 {
		var list []byte
		for len(list) < 40 {
			e := all[rng.IntN(len(all))]
			if len(list)+len(e.wire) > 40 || e.value.Type == OptionEnd {
				break
			}
			list = append(list, e.wire...)
		}
		for len(list)%4 != 0 {
			list = append(list, optionNop)
		}
		options, err := walked(list)
		if err != nil {
			t.Fatalf("%x: %v", list, err)
		}
		if got, err := AppendOptions(nil, options); err != nil || !bytes.Equal(got, list) {
			t.Fatalf("got %x, %v; want %x", got, err, list)
		}
	}
}
