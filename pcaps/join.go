package pcaps

import "github.com/synbond/synbond/rewrite"

// join is the MP_JOIN handshake of a subflow.
type join struct {
	to       *track // the connection, nil if unknown
	at       int    // index in the connection's Subflows, -1 beyond maxSubflows
	toClient bool   // the token is the one of the connection's client
	syn      rewrite.MPTCP
	answer   rewrite.MPTCP // of the SYN+ACK
}

// maxSubflows bounds the subflows in the report of one connection.
const maxSubflows = 64

// beginJoin handles the SYN. Its token identifies the connection, if the capture has the
// keys of the connection.
func (r *replay) beginJoin(t *track, m rewrite.MPTCP, frame int) {
	end, known := r.tokens[m.Token]
	s := &t.mptcp
	s.join = &join{syn: m, at: -1}
	if !known {
		return
	}
	s.join.to, s.join.toClient = end.t, end.client
	main := end.t.flow
	t.flow.SubflowOf = main.Client
	if len(main.Subflows) < maxSubflows {
		s.join.at = len(main.Subflows)
		main.Subflows = append(main.Subflows, Subflow{
			Client: t.flow.Client, Server: t.flow.Server, Frame: frame,
			AddressID: m.AddressID, Backup: m.Backup, State: "not answered",
		})
	}
}

// state sets the state of the subflow in the report of its connection.
func (j *join) state(text string) {
	if j.to != nil && j.at >= 0 {
		j.to.flow.Subflows[j.at].State = text
	}
}

// keys returns the keys of the connection, first the one of the end that sent the MP_JOIN.
// ok is false if the capture does not have both.
func (j *join) keys() (joiner, joined uint64, ok bool) {
	if j.to == nil {
		return 0, 0, false
	}
	s := &j.to.mptcp
	if j.toClient {
		return s.serverKey, s.clientKey, s.clientKnown && s.serverKnown
	}
	return s.clientKey, s.serverKey, s.clientKnown && s.serverKnown
}

// answered handles the SYN+ACK.
func (j *join) answered(m rewrite.MPTCP) {
	if !m.Join {
		j.state("refused: no MP_JOIN in the SYN+ACK")
		return
	}
	j.answer = m
	joiner, joined, ok := j.keys()
	if !ok {
		j.state("answered; the keys were not captured")
		return
	}
	proof := rewrite.Join{
		Version: j.to.mptcp.version, SenderKey: joined, ReceiverKey: joiner,
		SenderNonce: m.Nonce, ReceiverNonce: j.syn.Nonce,
	}
	if !proof.VerifySYNACK(rewrite.MPJoinSYNACK{HMAC: m.HMAC, Nonce: m.Nonce}) {
		j.state("wrong HMAC in the SYN+ACK")
		return
	}
	j.state("answered")
}

// confirmed handles the option list of the third ACK.
func (j *join) confirmed(list []byte) {
	joiner, joined, ok := j.keys()
	if !ok || !j.answer.Join {
		return
	}
	proof := rewrite.Join{
		Version: j.to.mptcp.version, SenderKey: joiner, ReceiverKey: joined,
		SenderNonce: j.syn.Nonce, ReceiverNonce: j.answer.Nonce,
	}
	var o rewrite.Option
	for walk := rewrite.WalkOptions(list); walk.Next(&o); {
		if o.Type != rewrite.OptionMPJoinACK {
			continue
		}
		if proof.VerifyACK(o.MPJoinACK) {
			j.state("joined")
		} else {
			j.state("wrong HMAC in the ACK")
		}
		return
	}
	j.state("no MP_JOIN in the third ACK")
}
