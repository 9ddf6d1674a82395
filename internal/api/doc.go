// Package api holds the types of a running box's answers on its control socket, and
// the client that asks for them.
//
// The control socket is a unix stream socket that speaks HTTP/1.1:
//
//	GET /flows        [Dump]: live flows and totals
//	GET /flows?all    [Dump]: also flows that ended lately, and learnt destinations
//	GET /flows?port=N [Dump]: the flows that a [FlowFilter] selects
//	GET /explain?…    [Explanation] of an [ExplainQuery]
//	GET /paths        [Paths]
//	GET /findings     [Findings]
//
// An answer with a status other than 200 has an [Error] as its body. The box
// encodes these types, the command line, the lab and the tests decode them. Keys
// may be added; the meaning of a key never changes. docs/configuration.md
// describes every key.
package api
