//go:build linux

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

// testbed is a system that runs, with the settings of its workloads.
type testbed struct {
	*network
	*boxes
	system   *system
	client   netip.Addr
	duration time.Duration // of a measurement
	flows    int           // of the workload "idle flows"
}

// verify checks that the results of the system can be compared: all bytes arrive, the
// server sees the client's address (every workload checks that, too), and there is
// MPTCP between the boxes, with a subflow on the second line.
func (s *testbed) verify(ctx context.Context) error {
	before, err := mptcpCounters(s.HAG)
	if err != nil {
		return err
	}
	var joined, capable int64
	for deadline := time.Now().Add(patience); ; {
		for _, up := range []bool{false, true} {
			if _, err := s.runJob(ctx, job{Kind: "bulk", Parallel: 2, Up: up, All: true, Duration: 50 * time.Millisecond}); err != nil {
				return err
			}
		}
		after, err := mptcpCounters(s.HAG)
		if err != nil {
			return err
		}
		capable = after["MPCapableACKRX"] - before["MPCapableACKRX"]
		joined = after["MPJoinAckRx"] - before["MPJoinAckRx"]
		if s.mptcpAsExpected(capable, joined) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the HAG took %d MPTCP connections and %d joins", capable, joined)
		}
	}
}

// mptcpAsExpected reports whether these numbers of new MPTCP connections and joins
// at the HAG are right for the system.
func (s *testbed) mptcpAsExpected(capable, joined int64) bool {
	if !s.system.multipath {
		return capable == 0 && joined == 0
	}
	return capable > 0 && (joined > 0 || len(s.Lines) == 1)
}

// clientProcess is a client process that has done its job. Its connections stay open
// until end is called.
type clientProcess struct {
	outcome
	cmd *exec.Cmd
	end func() error
}

// startClient starts a client process, which is killed when ctx ends.
func (s *testbed) startClient(ctx context.Context, j job) (wait func() (*clientProcess, error), err error) {
	j.From, j.To = s.client, netip.AddrPortFrom(netlab.Server6, port)
	p := self(roleClient)
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
	v := &clientProcess{cmd: cmd}
	v.end = func() error {
		defer stop()
		return errors.Join(in.Close(), cmd.Wait())
	}
	err = json.NewEncoder(in).Encode(j)
	return func() (*clientProcess, error) {
		if err == nil {
			err = json.NewDecoder(out).Decode(&v.outcome)
		}
		if err == nil && v.Failure != "" {
			err = errors.New(v.Failure)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", j.Kind, err), v.end())
		}
		return v, nil
	}, nil
}

// runJob starts a client process for one job and waits for its end.
func (s *testbed) runJob(ctx context.Context, j job) (outcome, error) {
	wait, err := s.startClient(ctx, j)
	if err != nil {
		return outcome{}, err
	}
	v, err := wait()
	if err != nil {
		return outcome{}, err
	}
	return v.outcome, v.end()
}

// runTimedJob runs a job and returns the processor time used meanwhile.
func (s *testbed) runTimedJob(ctx context.Context, j job) (outcome, usage, error) {
	before, err := used(s.boxes)
	if err != nil {
		return outcome{}, usage{}, err
	}
	o, err := s.runJob(ctx, j)
	if err != nil {
		return o, usage{}, err
	}
	after, err := used(s.boxes)
	return o, after.since(before), err
}
