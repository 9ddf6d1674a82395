package paths

import (
	"slices"
	"unsafe"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Of uapi linux/bpf.h: BPF_SOCK_OPS_*_CB, by which a sock_ops program is called, the
// flags that ask for some of them, TCP_BPF_IW, and where things are in struct
// bpf_sock_ops.
const (
	connecting         = 3
	activeEstablished  = 4
	passiveEstablished = 5
	stateChange        = 10
	roundTrip          = 12

	wantStateChange = 1 << 2
	wantRoundTrip   = 1 << 3

	tcpBPFIW = 1001

	opsFamily    = 20
	opsRemote4   = 24
	opsLocal4    = 28
	opsRemote6   = 32
	opsLocal6    = 48
	opsWindow    = 76 // snd_cwnd
	opsFlags     = 84
	opsLeastRTT  = 92 // µs
	opsThreshold = 96 // snd_ssthresh
	opsAcked     = 176
	opsSocket    = 184
)

// How further subflows learn their initial window.
const (
	// learntFrom is how many bytes a subflow must have sent to teach others.
	learntFrom = 1 << 20
	// learntShare of its window is what others begin with: it also filled the buffer of
	// the line, and doubles with each round trip.
	learntShare = 3
	learntLeast = 10 // segments
	// learntMost times the configured window they get at most.
	learntMost = 4
	// endless is the slow start threshold of what has lost nothing (TCP_INFINITE_SSTHRESH).
	endless = 0x7fffffff
)

// pacedTo is how fast a paced subflow may be at most, in bytes/s: all but the
// largest number of 32 bits, which is for none. TCP paces what has such a limit by
// its congestion window and its round trip.
const pacedTo = -2

// pacedFrom is the round trip from which on subflows are paced, in µs: on shorter
// paths, which are faster than a machine, timers would cost more than bursts.
const pacedFrom = 2000

// windowProgram is a BPF program that is called with changes of TCP connections. It
// acts on those of a network namespace that are subflows.
type windowProgram struct {
	netns   uint64 // its cookie
	first   int16  // where struct mptcp_sock has the connection's first subflow
	learnt  int    // descriptor of the map from between to windows
	initial int32  // window, in segments
}

// Registers that live through calls, and places on the stack.
const (
	ops    = asm.R6 // struct bpf_sock_ops
	op     = asm.R7 // what has happened
	number = asm.R8
	other  = asm.R9

	value = -4
	key   = value - 4 - int16(unsafe.Sizeof(between{}))
)

// Labels.
const (
	toAct     = "act"
	toSet     = "set"
	toLearn   = "learn"
	toDivide  = "divide"
	toLimit   = "limit"
	toLookup  = "lookup"
	toCompare = "compare"
	toStore   = "store"
	toPace    = "pace"
	toDone    = "done"
	toExit    = "exit"
)

func (p windowProgram) instructions() asm.Instructions {
	return slices.Concat(p.enter(), p.begin(), p.learn(), p.pace(), asm.Instructions{
		asm.Mov.Imm(asm.R0, 1).WithSymbol(toExit),
		asm.Return(),
	})
}

// enter leaves the connection in R0, and goes where op is dealt with.
func (p windowProgram) enter() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(ops, asm.R1),
		asm.LoadMem(op, ops, 0, asm.Word),
		asm.JEq.Imm(op, connecting, toAct),
		asm.JEq.Imm(op, activeEstablished, toAct),
		asm.JEq.Imm(op, passiveEstablished, toAct),
		asm.JEq.Imm(op, stateChange, toAct),
		asm.JNE.Imm(op, roundTrip, toExit),

		asm.Mov.Reg(asm.R1, ops).WithSymbol(toAct),
		asm.FnGetNetnsCookie.Call(),
		asm.LoadImm(asm.R1, int64(p.netns), asm.DWord),
		asm.JNE.Reg(asm.R0, asm.R1, toExit),
		asm.LoadMem(asm.R1, ops, opsSocket, asm.DWord),
		asm.JEq.Imm(asm.R1, 0, toExit),
		asm.FnSkcToMptcpSock.Call(),
		asm.JEq.Imm(asm.R0, 0, toExit),
		asm.JEq.Imm(op, stateChange, toLearn),
		asm.JEq.Imm(op, roundTrip, toPace),
	}
}

// begin gives a subflow its initial window. The rate by which MPTCP's scheduler
// judges it comes from the window that it has when its SYN is answered, but once it
// is established TCP sets that anew: so it is given twice.
func (p windowProgram) begin() asm.Instructions {
	return slices.Concat(
		asm.Instructions{
			asm.Mov.Imm(number, p.initial),
			asm.Mov.Imm(other, wantRoundTrip),
			asm.LoadMem(asm.R1, ops, opsSocket, asm.DWord),
			asm.LoadMem(asm.R2, asm.R0, p.first, asm.DWord),
			asm.JEq.Reg(asm.R1, asm.R2, toSet),
			asm.Mov.Imm(other, wantRoundTrip|wantStateChange),
		},
		p.lookup("begin"),
		asm.Instructions{
			asm.JEq.Imm(asm.R0, 0, toSet),
			asm.LoadMem(number, asm.R0, 0, asm.Word),
		},
		labelled(toSet, setOption(unix.SOL_TCP, tcpBPFIW)),
		asm.Instructions{
			asm.JEq.Imm(op, connecting, toExit),
			asm.LoadMem(asm.R2, ops, opsFlags, asm.Word),
			asm.Or.Reg(asm.R2, other),
			asm.Mov.Reg(asm.R1, ops),
			asm.FnSockOpsCbFlagsSet.Call(),
			asm.Ja.Label(toExit),
		},
	)
}

// learn takes from a further subflow that ends what later ones are to begin with. One
// that has lost nothing, or was short of bytes to send, can only raise that.
func (p windowProgram) learn() asm.Instructions {
	most := learntMost * p.initial
	return slices.Concat(
		asm.Instructions{
			asm.LoadMem(asm.R1, ops, opsAcked, asm.DWord).WithSymbol(toLearn),
			asm.JLT.Imm(asm.R1, learntFrom, toExit),
			asm.LoadMem(number, ops, opsWindow, asm.Word),
			asm.LoadMem(other, ops, opsThreshold, asm.Word),
			asm.JGE.Imm(other, endless, toDivide),
			asm.JGE.Reg(number, other, toDivide),
			asm.Mov.Reg(number, other), // it was idle, and has less than it had
			asm.Div.Imm(number, learntShare).WithSymbol(toDivide),
			asm.JGE.Imm(number, learntLeast, toLimit),
			asm.Mov.Imm(number, learntLeast),
			asm.JLE.Imm(number, most, toLookup).WithSymbol(toLimit),
			asm.Mov.Imm(number, most),
		},
		labelled(toLookup, p.lookup("learn")),
		asm.Instructions{
			asm.JLT.Imm(other, endless, toStore),
			asm.Mov.Imm(asm.R1, p.initial),
			asm.JEq.Imm(asm.R0, 0, toCompare),
			asm.LoadMem(asm.R1, asm.R0, 0, asm.Word),
			asm.JGE.Reg(asm.R1, number, toExit).WithSymbol(toCompare),

			asm.StoreMem(asm.RFP, value, number, asm.Word).WithSymbol(toStore),
			asm.LoadMapPtr(asm.R1, p.learnt),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, int32(key)),
			asm.Mov.Reg(asm.R3, asm.RFP),
			asm.Add.Imm(asm.R3, value),
			asm.Mov.Imm(asm.R4, 0),
			asm.FnMapUpdateElem.Call(),
			asm.Ja.Label(toExit),
		},
	)
}

// pace is for a subflow's first round trip.
func (p windowProgram) pace() asm.Instructions {
	return slices.Concat(
		asm.Instructions{
			asm.LoadMem(asm.R1, ops, opsLeastRTT, asm.Word).WithSymbol(toPace),
			asm.JLT.Imm(asm.R1, pacedFrom, toDone),
			asm.Mov.Imm(number, pacedTo),
		},
		setOption(unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE),
		asm.Instructions{
			asm.LoadMem(asm.R2, ops, opsFlags, asm.Word).WithSymbol(toDone),
			asm.And.Imm(asm.R2, ^wantRoundTrip),
			asm.Mov.Reg(asm.R1, ops),
			asm.FnSockOpsCbFlagsSet.Call(),
			asm.Ja.Label(toExit),
		},
	)
}

// setOption sets an option of the socket to number.
func setOption(level, option int32) asm.Instructions {
	return asm.Instructions{
		asm.StoreMem(asm.RFP, value, number, asm.Word),
		asm.Mov.Reg(asm.R1, ops),
		asm.Mov.Imm(asm.R2, level),
		asm.Mov.Imm(asm.R3, option),
		asm.Mov.Reg(asm.R4, asm.RFP),
		asm.Add.Imm(asm.R4, value),
		asm.Mov.Imm(asm.R5, 4),
		asm.FnSetsockopt.Call(),
	}
}

// lookup leaves a pointer to what is learnt between the socket's addresses in R0, or
// 0. The name is for its labels.
func (p windowProgram) lookup(name string) asm.Instructions {
	local, remote := key+int16(unsafe.Offsetof(between{}.local)), key+int16(unsafe.Offsetof(between{}.remote))
	toSix, toFind := name+" IPv6", name+" find"
	word := func(from, to int16) asm.Instructions {
		return asm.Instructions{asm.LoadMem(asm.R1, ops, from, asm.Word), asm.StoreMem(asm.RFP, to, asm.R1, asm.Word)}
	}
	clear, six := asm.Instructions{asm.Mov.Imm(asm.R1, 0)}, asm.Instructions{}
	for i := int16(0); i < int16(unsafe.Sizeof(between{})); i += 8 {
		clear = append(clear, asm.StoreMem(asm.RFP, key+i, asm.R1, asm.DWord))
	}
	for i := int16(0); i < 16; i += 4 {
		six = append(six, slices.Concat(word(opsLocal6+i, local+i), word(opsRemote6+i, remote+i))...)
	}
	return slices.Concat(
		clear,
		asm.Instructions{
			asm.LoadMem(asm.R1, ops, opsFamily, asm.Word),
			asm.JNE.Imm(asm.R1, unix.AF_INET, toSix),
		},
		word(opsLocal4, local), word(opsRemote4, remote),
		asm.Instructions{asm.Ja.Label(toFind)},
		labelled(toSix, six),
		asm.Instructions{
			asm.LoadMapPtr(asm.R1, p.learnt).WithSymbol(toFind),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, int32(key)),
			asm.FnMapLookupElem.Call(),
		},
	)
}

// labelled gives instructions a label to jump to.
func labelled(label string, all asm.Instructions) asm.Instructions {
	all[0] = all[0].WithSymbol(label)
	return all
}
