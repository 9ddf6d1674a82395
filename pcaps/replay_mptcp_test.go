package pcaps

import (
	"net/netip"
	"testing"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

const clientNonce, serverNonce = 0x21222324, 0x31323334

// joinSteps returns the MP_JOIN options of a handshake from the client.
func joinSteps(version uint8) (syn, synack, ack []byte) {
	client := rewrite.Join{
		Version: version, SenderKey: clientKey, ReceiverKey: serverKey, SenderNonce: clientNonce, ReceiverNonce: serverNonce,
	}
	server := rewrite.Join{
		Version: version, SenderKey: serverKey, ReceiverKey: clientKey, SenderNonce: serverNonce, ReceiverNonce: clientNonce,
	}
	syn = rewrite.MPJoinSYN{Token: rewrite.Token(serverKey, version), Nonce: clientNonce, AddressID: 4, Backup: true}.Append(nil)
	synack = rewrite.MPJoinSYNACK{HMAC: server.TruncatedHMAC(), Nonce: serverNonce}.Append(nil)
	return syn, synack, rewrite.MPJoinACK{HMAC: client.HMAC()}.Append(nil)
}

func TestReplayReportsSubflows(t *testing.T) {
	second := conn{netip.MustParseAddrPort("192.0.2.9:50000"), server4}
	join, joinAnswer, joinACK := joinSteps(1)
	wrong := rewrite.MPJoinSYNACK{HMAC: 1, Nonce: serverNonce}.Append(nil)
	stranger := rewrite.MPJoinSYN{Token: 1, Nonce: 2}.Append(nil)
	opened := [][]byte{conn4.syn(capableSYN), conn4.synack(capableSYNACK), conn4.ack(capableACK)}
	for _, c := range []struct {
		name    string
		packets [][]byte
		state   string
	}{
		{"a subflow joins", [][]byte{second.syn(join), second.synack(joinAnswer), second.ack(joinACK)}, "joined"},
		{"no answer", [][]byte{second.syn(join)}, "not answered"},
		{"the answer is not confirmed", [][]byte{second.syn(join), second.synack(joinAnswer)}, "answered"},
		{"the answer has a wrong HMAC", [][]byte{second.syn(join), second.synack(wrong)}, "wrong HMAC in the SYN+ACK"},
		{"the answer is plain", [][]byte{second.syn(join), second.synack()}, "refused: no MP_JOIN in the SYN+ACK"},
		{"the ACK is plain", [][]byte{second.syn(join), second.synack(joinAnswer), second.ack(nil)}, "no MP_JOIN in the third ACK"},
		{"the answer is a reset", [][]byte{second.syn(join), second.fromServer(rewrite.RST|rewrite.ACK, nil, "")}, "refused: reset"},
		{"the token is unknown", [][]byte{second.syn(stranger), second.synack(joinAnswer)}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := replayFile(t, newCapture(t, Pcapng).add(opened...).add(c.packets...).bytes(), Config{})
			f := p.report.Flows[0]
			if !f.MPTCP || *f.Version != 1 || f.ServerToken != rewrite.Token(serverKey, 1) ||
				f.ClientToken != rewrite.Token(clientKey, 1) || f.Token != f.ServerToken || f.Fallback != "" {
				t.Errorf("connection %+v", f.Connection)
			}
			if c.state == "" {
				if len(f.Subflows) != 0 || p.report.Flows[1].SubflowOf.IsValid() {
					t.Errorf("subflows %+v", f.Subflows)
				}
				return
			}
			want := Subflow{Client: second.client, Server: second.server, Frame: 4, AddressID: 4, Backup: true, State: c.state}
			if len(f.Subflows) != 1 || f.Subflows[0] != want || p.report.Flows[1].SubflowOf != client4 {
				t.Errorf("subflows %+v, want %+v", f.Subflows, want)
			}
		})
	}
}

func TestReplayReportsFallback(t *testing.T) {
	fail := rewrite.MPFail{DSN: 1}.Append(nil)
	endless := rewrite.DSS{HasMap: true, DSN: 1}.Append(nil)
	mapped := rewrite.DSS{HasMap: true, DSN: 1, DataLength: 4}.Append(nil)
	syn, synack, ack := conn6.syn(capableSYN), conn6.synack(capableSYNACK), conn6.ack(capableACK)
	for _, c := range []struct {
		name     string
		packets  [][]byte
		fallback string
		mptcp    bool
	}{
		{"none", [][]byte{syn, synack, ack, conn6.fromClient(rewrite.ACK, mapped, "data")}, "", true},
		{"the third ACK is lost", [][]byte{syn, synack, conn6.fromClient(rewrite.ACK, mapped, "data")}, "", true},
		{"the answer is plain", [][]byte{syn, conn6.synack(), conn6.ack(nil)}, notCaptured, false},
		{"the server of a plain client has MPTCP", [][]byte{conn6.syn(), synack, conn6.ack(nil)}, "", true},
		{"the server of a plain client has none", [][]byte{conn6.syn(), conn6.synack(), conn6.ack(nil)}, plainAnswer, false},
		{"the third ACK is plain", [][]byte{syn, synack, conn6.ack(nil)}, plainACK, false},
		{"a checksum was wrong", [][]byte{syn, synack, ack, conn6.fromServer(rewrite.ACK, fail, "")}, failed, false},
		{"a mapping is infinite", [][]byte{syn, synack, ack, conn6.fromClient(rewrite.ACK, endless, "data")}, infinite, false},
		{"the version is old", [][]byte{conn6.syn(oldSYN), conn6.synack()}, otherVersion, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := replayFile(t, newCapture(t, Pcapng).add(c.packets...).bytes(), Config{}).report.Flows[0]
			if f.Fallback != c.fallback || f.MPTCP != c.mptcp {
				t.Errorf("fallback %q, MPTCP %v; want %q, %v", f.Fallback, f.MPTCP, c.fallback, c.mptcp)
			}
		})
	}
}

func TestReplayReportsStrippedConnectionAsTCP(t *testing.T) {
	file := newCapture(t, Pcapng).add(conn6.syn(capableSYN), conn6.synack(capableSYNACK), conn6.ack(capableACK)).bytes()
	f := replayFile(t, file, Config{Policy: &core.Policy{Default: state.Strip}}).wantFlow(t, "multipath strip passed")
	if f.MPTCP || f.Fallback != stripped || f.ClientToken == 0 || f.ServerToken == 0 {
		t.Errorf("connection %+v", f.Connection)
	}
}

func TestReplayUsesSamePlaceholderKeyEachTime(t *testing.T) {
	file := newCapture(t, Pcapng).add(conn6.syn(capableSYN), conn6.synack()).bytes()
	key := func() uint64 {
		var seg rewrite.Segment
		if err := seg.Parse(replayFile(t, file, Config{}).out[1].Packet()); err != nil {
			t.Fatal(err)
		}
		m, err := seg.MPTCP()
		if err != nil || !m.Capable {
			t.Fatalf("%+v, %v", m, err)
		}
		return m.SenderKey
	}
	if a, b := key(), key(); a != b || a == 0 {
		t.Errorf("keys %x and %x", a, b)
	}
}
