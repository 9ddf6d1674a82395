package pcaps

import (
	"bytes"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/state"
)

// iface returns the interface of a frame.
func (r *replay) iface(f *Frame) *captureInterface {
	for len(r.interfaces) <= f.Interface {
		r.interfaces = append(r.interfaces, r.cfg.interfaceOf(r.in.Interface(len(r.interfaces))))
	}
	return &r.interfaces[f.Interface]
}

// interfaceOn returns an interface for a packet that leaves the box on a side because of a
// frame: the first interface known to be on that side, or else the frame's own.
func (r *replay) interfaceOn(f *Frame, side state.Side) Interface {
	here := r.iface(f)
	for i := range r.in.Interfaces() {
		p := r.iface(&Frame{Interface: i})
		if here.sideKnown && p.sideKnown && p.side == side && p.LinkType == here.LinkType {
			return p.Interface
		}
	}
	return here.Interface
}

func (r *replay) write(f *Frame, in Interface, comments ...string) error {
	if r.out == nil {
		return nil
	}
	r.report.Totals.Written++
	return r.out.Write(f, in, comments...)
}

// pass copies a frame unchanged.
func (r *replay) pass(f *Frame) error { return r.write(f, r.iface(f).Interface) }

// omit counts a packet that does not leave the box.
func (r *replay) omit() error {
	r.report.Totals.LeftOut++
	return nil
}

// passDecided copies a frame unchanged, with the decision as a comment.
func (r *replay) passDecided(f *Frame, d core.Decision) error {
	return r.write(f, r.iface(f).Interface, comment(d))
}

// writeEdited writes a frame with the edited packet of a decision, truncated by as many
// bytes as the captured packet.
func (r *replay) writeEdited(f *Frame, d core.Decision, packet []byte) error {
	out := *f
	out.Replace(d.Edited[:len(d.Edited)-f.Missing()])
	return r.write(&out, r.iface(f).Interface, comment(d))
}

// writeBuilt writes a packet of the box itself, in a frame like f.
func (r *replay) writeBuilt(f *Frame, in Interface, packet []byte, d core.Decision) error {
	out := *f
	out.missing, out.Comments, out.Direction = 0, nil, Outbound
	out.Replace(packet)
	if at := links[in.LinkType].packetType; at != 0 {
		out.Data[at] = 4 // PACKET_OUTGOING
	}
	return r.write(&out, in, comment(d))
}

// reversed returns a frame like f in the opposite direction. Numbers that differ between the
// directions of a tunnel, such as those of GTP-U, stay.
func (r *replay) reversed(f *Frame) *Frame {
	out := clone(f)
	out.turn()
	return out
}

// clone returns a copy of a frame with its own memory.
func clone(f *Frame) *Frame {
	out := *f
	out.Data, out.own = bytes.Clone(f.Data), nil
	return &out
}

// comment returns the packet comment for a decision.
func comment(d core.Decision) string {
	verdict, why := d.Verdict.String(), d.Why()
	if why == "" || why == verdict {
		return verdict
	}
	return verdict + ": " + why
}
