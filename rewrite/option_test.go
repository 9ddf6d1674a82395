package rewrite

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

// same compares the types and the values of two options.
func same(a, b *Option) bool {
	return a.Type == b.Type && a.Len() == b.Len() && reflect.DeepEqual(valueOf(a), valueOf(b))
}

// valueOf returns the field for the type of an option.
func valueOf(o *Option) any {
	for name, v := range map[OptionType]any{
		OptionMSS: o.MSS, OptionWindowScale: o.WindowScale, OptionSACK: o.SACK, OptionTimestamps: o.Timestamps,
		OptionFastOpen:  FastOpen{append([]byte{}, o.FastOpen.Cookie...)},
		OptionMPCapable: o.MPCapable, OptionMPJoinSYN: o.MPJoinSYN, OptionMPJoinSYNACK: o.MPJoinSYNACK,
		OptionMPJoinACK: o.MPJoinACK, OptionDSS: o.DSS, OptionAddAddr: o.AddAddr,
		OptionRemoveAddr: o.RemoveAddr, OptionMPPrio: o.MPPrio, OptionMPFail: o.MPFail,
		OptionMPFastclose: o.MPFastclose, OptionMPTCPRST: o.MPTCPRST,
		OptionMPExperimental: MPExperimental{o.MPExperimental.Nibble, append([]byte{}, o.MPExperimental.Data...)},
		OptionUnknown:        string(o.Raw), OptionEnd: string(o.Raw),
	} {
		if name == o.Type {
			return v
		}
	}
	return nil // Nop, SACK permitted
}

func TestAppendMatchesRFCs(t *testing.T) {
	for _, e := range elements() {
		t.Run(e.name, func(t *testing.T) {
			if got := e.value.Append([]byte("before")); string(got) != "before"+string(e.wire) {
				t.Errorf("Append: got %x, want %x", got[6:], e.wire)
			}
			if e.value.Len() != len(e.wire) {
				t.Errorf("Len: got %d, want %d", e.value.Len(), len(e.wire))
			}
		})
	}
}

func TestParseMatchesRFCs(t *testing.T) {
	var o Option // one for all: values of an earlier option must not matter
	for _, e := range elements() {
		if err := o.Parse(e.wire); err != nil || !same(&o, &e.value) || !bytes.Equal(o.Raw, e.wire) {
			t.Errorf("%s: got %v %+v, %v; want %v %+v", e.name, o.Type, valueOf(&o), err, e.value.Type, valueOf(&e.value))
		}
	}
}

func TestParseRefusesEveryPrefixAndOneByteMore(t *testing.T) {
	for _, e := range elements() {
		if e.value.Type == OptionEnd || e.value.Type == OptionNop {
			continue // Nop has one byte, End any number
		}
		var o Option
		for n := range e.wire {
			if err := o.Parse(e.wire[:n]); err != BadOption {
				t.Errorf("%s: the first %d bytes: got %v", e.name, n, err)
			}
		}
		if err := o.Parse(cat(e.wire, nop)); err != BadOption {
			t.Errorf("%s: a byte more: got %v", e.name, err)
		}
	}
}

// Whole options with every length up to 40 bytes, of which only a few are allowed.
func TestParseRefusesOtherLengths(t *testing.T) {
	for _, tt := range []struct {
		name    string
		head    []byte // kind, length (set by the test), and the bytes that select the layout
		allowed []int
	}{
		{"MSS", []byte{2, 0}, []int{4}},
		{"window scale", []byte{3, 0}, []int{3}},
		{"SACK permitted", []byte{4, 0}, []int{2}},
		{"SACK", []byte{5, 0}, []int{10, 18, 26, 34}},
		{"timestamps", []byte{8, 0}, []int{10}},
		{"fast open", []byte{34, 0}, []int{2, 6, 8, 10, 12, 14, 16, 18}},
		{"MP_CAPABLE v0", []byte{30, 0, 0x00}, []int{12, 20}},
		{"MP_CAPABLE v1", []byte{30, 0, 0x01}, []int{4, 12, 20, 22, 24}},
		{"MP_JOIN", []byte{30, 0, 0x10}, []int{12, 16, 24}},
		{"DSS with nothing", []byte{30, 0, 0x20, 0x0a}, []int{4}},
		{"DSS with a narrow ack", []byte{30, 0, 0x20, 0x09}, []int{8}},
		{"DSS with a wide ack", []byte{30, 0, 0x20, 0x03}, []int{12}},
		{"DSS with a narrow map", []byte{30, 0, 0x20, 0x04}, []int{14, 16}},
		{"DSS with all wide", []byte{30, 0, 0x20, 0x1f}, []int{26, 28}},
		{"ADD_ADDR v1", []byte{30, 0, 0x30}, []int{16, 18, 28, 30}},
		{"ADD_ADDR v1 echo", []byte{30, 0, 0x31}, []int{8, 10, 20, 22}},
		{"ADD_ADDR IPv4 of v0, v1 with a reserved bit", []byte{30, 0, 0x34}, []int{8, 10, 16, 18, 28, 30}},
		{"ADD_ADDR IPv6 of v0, v1 with reserved bits", []byte{30, 0, 0x36}, []int{16, 18, 20, 22, 28, 30}},
		{"MP_PRIO", []byte{30, 0, 0x51}, []int{3, 4}},
		{"MP_FAIL", []byte{30, 0, 0x60}, []int{12}},
		{"MP_FASTCLOSE", []byte{30, 0, 0x70}, []int{12}},
		{"MP_TCPRST", []byte{30, 0, 0x80}, []int{4}},
	} {
		for n := len(tt.head); n <= 40; n++ {
			raw := make([]byte, n)
			copy(raw, tt.head)
			raw[1] = byte(n)
			want := error(BadOption)
			for _, size := range tt.allowed {
				if n == size {
					want = nil
				}
			}
			if err := new(Option).Parse(raw); err != want {
				t.Errorf("%s of %d bytes: got %v, want %v", tt.name, n, err, want)
			}
		}
	}
}

func TestParseRefusesMalformedOptions(t *testing.T) {
	for name, raw := range map[string][]byte{
		"nothing":                      nil,
		"Nop and a byte":               {1, 1},
		"MPTCP without a subtype":      {30, 2},
		"REMOVE_ADDR of no address":    {30, 3, 0x40},
		"a kind alone":                 {2},
		"a length of zero":             {2, 0},
		"a length of one":              {2, 1},
		"a length below the bytes":     {253, 2, 0},
		"a length beyond the bytes":    {253, 4, 0},
		"ADD_ADDR with half an HMAC":   {30, 12, 0x30, 0, 1, 2, 3, 4, 5, 6, 7, 8},
		"an echo with an HMAC":         cat([]byte{30, 16, 0x31, 5}, make([]byte, 12)),
		"a cookie of an odd size":      {34, 7, 1, 2, 3, 4, 5},
		"a cookie of two bytes":        {34, 4, 1, 2},
		"SACK of nothing":              {5, 2},
		"SACK of half a block":         {5, 6, 1, 2, 3, 4},
		"MP_CAPABLE v0 without a key":  {30, 4, 0x00, 0x81},
		"MP_CAPABLE without its flags": {30, 3, 0x01},
	} {
		if err := new(Option).Parse(raw); err != BadOption {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAddAddrEncodesInvalidAddressAsUnspecified(t *testing.T) {
	a := AddAddr{Version: 1, Echo: true, AddressID: 1}
	want := mptcp(subtypeAddAddr, 1, []byte{1}, make([]byte, 16))
	if got := a.Append(nil); !bytes.Equal(got, want) || a.Len() != len(want) {
		t.Errorf("got %x, %d bytes; want %x", got, a.Len(), want)
	}
}

func TestDSSEncodesLowHalfOfSequenceNumbers(t *testing.T) {
	d := DSS{HasAck: true, Ack: testAck64, HasMap: true, DSN: testDSN}
	got, err := ParseDSS(d.Append(nil))
	if err != nil || got.Ack != testAckLow || got.DSN != testDSNLow {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestOptionTypeNames(t *testing.T) {
	seen := map[string]bool{}
	for typ := range numOptionTypes + 1 {
		name := typ.String()
		if name == "" || seen[name] {
			t.Errorf("type %d is %q", typ, name)
		}
		seen[name] = true
		mptcp := strings.HasPrefix(name, "MP_") || strings.HasSuffix(name, "_ADDR") || name == "DSS"
		if typ.IsMPTCP() != mptcp {
			t.Errorf("%v: IsMPTCP is %v", typ, typ.IsMPTCP())
		}
	}
}
