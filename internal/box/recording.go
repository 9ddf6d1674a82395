package box

import (
	"context"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/state"
)

// Recorder keeps handshakes, and what a box decided about them, for a later look.
// What tells it of a decision is called where SYNs wait for their verdict, before
// it is given: it must not block, and keeps nothing that it is given.
type Recorder interface {
	// Run records until ctx ends, and then what it has been told until then.
	Run(ctx context.Context) error
	// Decided tells of a decision about a packet that has just come by the queue.
	Decided(d *core.Decision)
	// Settled tells of a decision about a SYN that was held.
	Settled(d *core.Decision)
	// Paired tells that the client has completed its handshake.
	Paired(key state.Key)
	// File names the file that has the handshake of a flow, "" if none has it.
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
