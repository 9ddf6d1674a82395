//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// job is the work of a client process.
type job struct {
	Kind     string     // of jobs
	From     netip.Addr // the client's
	To       netip.AddrPort
	Parallel int           // connections at a time
	Count    int           // connections in all, for hold
	Duration time.Duration // of the measurement
	Warmup   time.Duration // before that, of churn
	Pause    time.Duration // after each connection; with one at a time
	Up       bool          // the direction of streams
	All      bool          // verify every byte
}

// outcome is the result of a job.
type outcome struct {
	Bytes       int64         // received, of all streams
	Elapsed     time.Duration // from the first dial to the last byte
	Connections int           // made
	Rate        float64       // connections per second, of churn
	P50, P99    time.Duration // of the connect time
	Reply       time.Duration // median of the time from the dial to the reply
	Failure     string        // the reason why the job failed, or ""
}

// jobs by their kind.
var jobs = map[string]func(job) (outcome, error){
	"bulk":  bulk,  // streams in parallel
	"churn": churn, // connect, request, reply, close
	"hold":  hold,  // open connections, which last as long as the process
}

// client is the main function of a client process: it reads a job, does it, writes
// the outcome, and returns at the end of its input.
func client(in io.Reader, out io.Writer) error {
	var j job
	if err := json.NewDecoder(in).Decode(&j); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	do, ok := jobs[j.Kind]
	if !ok {
		return fmt.Errorf("client: no job %q", j.Kind)
	}
	o, err := do(j)
	if err != nil {
		o.Failure = err.Error()
	}
	if err := json.NewEncoder(out).Encode(o); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	_, err = io.Copy(io.Discard, in)
	return err
}
