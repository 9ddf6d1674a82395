package rewrite

import "testing"

// Keys from captured handshakes, with the token and the sequence number from Wireshark,
// which the hosts used on the same connection.
func TestTokenAndIDSNMatchKnownHandshakes(t *testing.T) {
	for _, tt := range []struct {
		name    string
		version uint8
		key     uint64
		token   uint32
		idsn    uint64
	}{
		{"v0 client", 0, 11285646634205721522, 2945910507, 10975753215851282121},
		{"v0 server", 0, 10843866842831127890, 3833528642, 16464867208451421327},
		{"v1 client", 1, 2295531734017261039, 597671344, 14413541604287230029},
		{"v1 server", 1, 3001306557161771836, 2740809090, 11713449205243392241},
		{"v1 client, Linux 6.18", 1, 7947081173601229856, 121615534, 8928339919418077734},
		{"v1 server, Linux 6.18", 1, 15636777894313208498, 4243866755, 2750498495286161151},
	} {
		if got := Token(tt.key, tt.version); got != tt.token {
			t.Errorf("%s: token %d, want %d", tt.name, got, tt.token)
		}
		if got := IDSN(tt.key, tt.version); got != tt.idsn {
			t.Errorf("%s: IDSN %d, want %d", tt.name, got, tt.idsn)
		}
	}
}
