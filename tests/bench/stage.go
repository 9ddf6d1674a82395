package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// stage is one contender, set up, with what its works need.
type stage struct {
	*network
	*boxes
	contender *contender
	client    netip.Addr
	duration  time.Duration // of a measurement
	flows     int           // idle ones
}

// admit checks that the contender does what it is compared for: all bytes arrive,
// the server sees the client's address (as on every connection of every work), and
// there is MPTCP between the boxes, with a subflow on the second line.
func (s *stage) admit(ctx context.Context) error {
	before, err := mptcpCounters(s.HAG)
	if err != nil {
		return err
	}
	var joined, capable int64
	for deadline := time.Now().Add(patience); ; {
		for _, up := range []bool{false, true} {
			if _, err := s.do(ctx, job{Kind: "bulk", Parallel: 2, Up: up, All: true, Duration: 50 * time.Millisecond}); err != nil {
				return err
			}
		}
		after, err := mptcpCounters(s.HAG)
		if err != nil {
			return err
		}
		capable = after["MPCapableACKRX"] - before["MPCapableACKRX"]
		joined = after["MPJoinAckRx"] - before["MPJoinAckRx"]
		if s.asWanted(capable, joined) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the HAG took %d MPTCP connections and %d joins", capable, joined)
		}
	}
}

// asWanted judges the HAG's new MPTCP connections and joins.
func (s *stage) asWanted(capable, joined int64) bool {
	if !s.contender.multipath {
		return capable == 0 && joined == 0
	}
	return capable > 0 && (joined > 0 || len(s.Lines) == 1)
}

// visitor is a client process that has done its job. What it holds open lasts
// until it is dismissed.
type visitor struct {
	outcome
	cmd     *exec.Cmd
	dismiss func() error
}

// begin starts a client process. It is killed with ctx.
func (s *stage) begin(ctx context.Context, j job) (wait func() (*visitor, error), err error) {
	j.From, j.To = s.client, netip.AddrPortFrom(netlab.Server6, port)
	p := self(partClient)
	cmd := s.Client.Command(p.Path, p.Args...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.Client.Start(cmd); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	v := &visitor{cmd: cmd}
	v.dismiss = func() error {
		defer stop()
		return errors.Join(in.Close(), cmd.Wait())
	}
	err = json.NewEncoder(in).Encode(j)
	return func() (*visitor, error) {
		if err == nil {
			err = json.NewDecoder(out).Decode(&v.outcome)
		}
		if err == nil && v.Failure != "" {
			err = errors.New(v.Failure)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", j.Kind, err), v.dismiss())
		}
		return v, nil
	}, nil
}

// do has a client process do one job, from beginning to end.
func (s *stage) do(ctx context.Context, j job) (outcome, error) {
	wait, err := s.begin(ctx, j)
	if err != nil {
		return outcome{}, err
	}
	v, err := wait()
	if err != nil {
		return outcome{}, err
	}
	return v.outcome, v.dismiss()
}

// timed does a job and tells what processor time passed meanwhile.
func (s *stage) timed(ctx context.Context, j job) (outcome, usage, error) {
	before, err := used(s.boxes)
	if err != nil {
		return outcome{}, usage{}, err
	}
	o, err := s.do(ctx, j)
	if err != nil {
		return o, usage{}, err
	}
	after, err := used(s.boxes)
	return o, after.since(before), err
}
