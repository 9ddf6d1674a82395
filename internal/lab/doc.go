// Package lab runs the scenarios of `synbond lab` on networks of package netlab,
// and prints their results as tables, charts, pictures (SVG) and JSON.
//
//	client ── cpe ══ dsl ══ hag ── server
//	           ╚════ lte ════╝
//
// [Scenarios] is the table of what can be run. [Scenario.Run] builds the network,
// starts both boxes, takes the steps of each variant one after the other, and
// returns a [Report]: checks, figures, and one [Timeline] for each variant that
// records what the lines carried. [Report.Print] and [Report.WriteSVG] show it.
//
// Invariants: a check that fails is part of the report and no error, and the
// network and the boxes are gone when Run returns.
package lab
