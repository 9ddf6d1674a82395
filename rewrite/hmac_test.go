package rewrite

import (
	cryptohmac "crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// Captured MP_JOIN handshakes, with HMACs that the hosts accepted. The joiner is the host
// that opens the subflow.
var knownJoins = []struct {
	name                   string
	version                uint8
	joinerKey, otherKey    uint64
	joinerNonce, peerNonce uint32
	synack                 uint64
	ack                    string
}{
	{"v0", 0, 11285646634205721522, 10843866842831127890, 459692568, 866904533,
		6536553503648313405, "cb7b87f5e5f0502f43b535fb70ef6607df2e6c7a"},
	{"v1, IPv6", 1, 7947081173601229856, 15636777894313208498, 2324908366, 1725920239,
		13188121689891050608, "4fd3ee8e433692c1f55c054d030501b8f4351be8"},
	{"v1, IPv4", 1, 4530447849454241466, 15839387637022713230, 3163818736, 2506501263,
		9329295672121551857, "276c6d03c39f09f46a9e6409c2638bc5611a214a"},
}

func TestJoinHMACsMatchKnownHandshakes(t *testing.T) {
	for _, tt := range knownJoins {
		t.Run(tt.name, func(t *testing.T) {
			joiner := Join{tt.version, tt.joinerKey, tt.otherKey, tt.joinerNonce, tt.peerNonce}
			other := Join{tt.version, tt.otherKey, tt.joinerKey, tt.peerNonce, tt.joinerNonce}
			if got := other.TruncatedHMAC(); got != tt.synack {
				t.Errorf("SYN+ACK: got %d, want %d", got, tt.synack)
			}
			sum := joiner.HMAC()
			if got := hex.EncodeToString(sum[:]); got != tt.ack {
				t.Errorf("ACK: got %s, want %s", got, tt.ack)
			}
			synack, ack := MPJoinSYNACK{HMAC: tt.synack, Nonce: tt.peerNonce}, MPJoinACK{HMAC: sum}
			if !other.VerifySYNACK(synack) || !joiner.VerifyACK(ack) {
				t.Error("refuses the correct HMACs")
			}
			if joiner.VerifySYNACK(synack) || other.VerifyACK(ack) {
				t.Error("accepts HMACs of the other direction")
			}
			for bit := range 64 {
				if other.VerifySYNACK(MPJoinSYNACK{HMAC: tt.synack ^ 1<<bit}) {
					t.Errorf("SYN+ACK: accepts a wrong bit %d", bit)
				}
			}
			for bit := range 160 {
				wrong := ack
				wrong.HMAC[bit/8] ^= 1 << (bit % 8)
				if joiner.VerifyACK(wrong) {
					t.Errorf("ACK: accepts a wrong bit %d", bit)
				}
			}
		})
	}
}

// HMACs that Linux 6.18 sent in ADD_ADDR of version 1.
func TestAddAddrHMACsMatchKnownConnections(t *testing.T) {
	for _, tt := range []struct {
		name                   string
		senderKey, receiverKey uint64
		id                     uint8
		address                string
		port                   uint16
		want                   uint64
	}{
		{"from the server", 15636777894313208498, 7947081173601229856, 6, "192.0.2.2", 0, 10844598019472008518},
		{"from the client", 7947081173601229856, 15636777894313208498, 6, "192.0.2.2", 0, 6895651158738081306},
		{"of an IPv4 connection", 15839387637022713230, 4530447849454241466, 6, "192.0.2.2", 0, 13265502618028887514},
		{"IPv6 with a port, from the server", 3566559714131096012, 3448740919383145287, 5, "2001:db8::2", 7777, 11556971347281521245},
		{"IPv6 with a port, from the client", 3448740919383145287, 3566559714131096012, 5, "2001:db8::2", 7777, 12524673449010090245},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := AddAddr{Version: 1, AddressID: tt.id, Address: netip.MustParseAddr(tt.address),
				HasPort: tt.port != 0, Port: tt.port, HMAC: tt.want}
			if got := a.MakeHMAC(tt.senderKey, tt.receiverKey); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
			if !a.Verify(tt.senderKey, tt.receiverKey) || a.Verify(tt.receiverKey, tt.senderKey) {
				t.Error("Verify: wrong result, for one order of the keys or the other")
			}
			for name, wrong := range map[string]AddAddr{
				"identifier": {1, false, tt.id + 1, a.Address, a.HasPort, a.Port, a.HMAC, 0},
				"address":    {1, false, tt.id, a.Address.Next(), a.HasPort, a.Port, a.HMAC, 0},
				"port":       {1, false, tt.id, a.Address, true, a.Port + 1, a.HMAC, 0},
				"HMAC":       {1, false, tt.id, a.Address, a.HasPort, a.Port, a.HMAC + 1, 0},
				"echo":       {1, true, tt.id, a.Address, a.HasPort, a.Port, a.HMAC, 0},
				"version":    {0, false, tt.id, a.Address, a.HasPort, a.Port, a.HMAC, 0},
			} {
				if wrong.Verify(tt.senderKey, tt.receiverKey) {
					t.Errorf("Verify accepts a wrong %s", name)
				}
			}
		})
	}
}

// An absent port counts as 0, whatever the value of the field.
func TestAddAddrHMACCountsAbsentPortAsZero(t *testing.T) {
	a := AddAddr{Version: 1, AddressID: 1, Address: extra6, Port: 7}
	b := AddAddr{Version: 1, AddressID: 1, Address: extra6, HasPort: true}
	if a.MakeHMAC(keyA, keyB) != b.MakeHMAC(keyA, keyB) {
		t.Error("the HMACs differ")
	}
}

func TestHMACAgreesWithStandardLibrary(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		pair := keyPair(rng.Uint64(), rng.Uint64())
		message := randomBytes(rng, rng.IntN(hmacMaximumMessage+1))
		one, two := cryptohmac.New(sha1.New, pair[:]), cryptohmac.New(sha256.New, pair[:])
		one.Write(message)
		two.Write(message)
		got1, got256 := hmacSHA1(pair, message), hmacSHA256(pair, message)
		if !cryptohmac.Equal(got1[:], one.Sum(nil)) || !cryptohmac.Equal(got256[:], two.Sum(nil)) {
			t.Fatalf("key %x, message %x: got %x and %x", pair, message, got1, got256)
		}
	}
}
