//go:build linux

package box

import (
	"context"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/state"
)

// Recorder keeps handshakes, with the decisions on them. Decided and Settled are
// called before the verdict of a SYN: they must not block, and must not keep their
// argument.
type Recorder interface {
	// Run records until ctx ends, and then the rest of what was reported by then.
	Run(ctx context.Context) error
	// Decided reports a decision on a packet that has just come from the queue.
	Decided(d *core.Decision)
	// Settled reports a decision on a SYN that was held.
	Settled(d *core.Decision)
	// Paired reports that the client has completed its handshake.
	Paired(key state.Key)
	// File returns the name of the file with the handshake of a flow, "" without one.
	File(key state.Key) string
	Totals() api.RecordingTotals
	// Close ends a recorder, also one that has not run.
	Close() error
}

// record opens the recorder, if there is to be one.
func (b *Box) record(undo *undo) error {
	b.recorder = idle{}
	if b.cfg.Record == nil {
		return nil
	}
	recorder, err := b.cfg.Record()
	if err != nil {
		return err
	}
	b.recorder = recorder
	undo.add(recorder.Close)
	return nil
}

// idle records nothing.
type idle struct{}

func (idle) Run(context.Context) error   { return nil }
func (idle) Decided(*core.Decision)      {}
func (idle) Settled(*core.Decision)      {}
func (idle) Paired(state.Key)            {}
func (idle) File(state.Key) string       { return "" }
func (idle) Totals() api.RecordingTotals { return api.RecordingTotals{} }
func (idle) Close() error                { return nil }
