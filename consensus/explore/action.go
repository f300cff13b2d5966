// SPDX-License-Identifier: AGPL-3.0-only

package explore

import "fmt"

// kind is what an action does.
type kind uint8

const (
	deliver kind = iota // arg: the message
	campaign
	campaignLocal
	propose
	tick
	release // arg: to whom
	readIndex
	askLease
	stopSign
	configure // arg: index of the configuration
	seal
	retire
	compact
	take   // of a stalled node: its Ready
	finish // of a stalled node: what the Ready asks for
	crash  // arg: how many unsynced batches survive
	// The fabric's: node is who does it, arg the other.
	lose
	expire
	bump
	support
	gain
	settle
	kinds
)

var kindNames = [kinds]string{
	deliver: "deliver", campaign: "campaign", campaignLocal: "campaign-local", propose: "propose", tick: "tick", release: "release",
	readIndex: "read", askLease: "ask-lease", stopSign: "stop-sign", configure: "configure", seal: "seal", retire: "retire",
	compact: "compact", take: "take", finish: "finish", crash: "crash",
	lose: "lose", expire: "expire", bump: "bump", support: "support", gain: "gain", settle: "settle",
}

func (k kind) fabric() bool { return k >= lose }

// mode is how the Readies that follow an input are done.
type mode uint8

const (
	whole mode = iota // at once
	hold              // later, by take and finish
	// A mode from crashIn on: the node crashes in the course of it, see crashMode.
	crashIn
)

const crashKeeps = 6 // at most so many unsynced batches less one

// crashMode: the node does the first readies Readies, writes the next and sends its MsgsNow, then crashes, and the first keep
// unsynced batches survive.
func crashMode(readies, keep int) mode { return crashIn + mode(readies*crashKeeps+keep) }

func (m mode) crash() (readies, keep int) {
	return int(m-crashIn) / crashKeeps, int(m-crashIn) % crashKeeps
}

// action is one step of the world. The zero action is none.
type action struct {
	kind  kind
	node  uint8 // index
	mode  mode
	again bool // of a message: it stays under way
	arg   uint16
}

func (a action) pack() uint32 {
	v := uint32(a.kind) | uint32(a.node)<<5 | uint32(a.mode)<<8 | uint32(a.arg)<<16
	if a.again {
		v |= 1 << 15
	}
	return v
}

func unpack(v uint32) action {
	return action{kind: kind(v & 31), node: uint8(v >> 5 & 7), mode: mode(v >> 8 & 127), again: v>>15&1 == 1, arg: uint16(v >> 16)}
}

// text is the action as a trace has it.
func (x *explorer) text(a action) string {
	s := ""
	switch a.kind {
	case deliver:
		s = "deliver " + x.label(a.arg)
		if a.again {
			s = "repeat " + x.label(a.arg)
		}
	case release, lose, expire, support, gain:
		s = fmt.Sprintf("%s %d %d", kindNames[a.kind], a.node+1, a.arg+1)
	case configure, seal, retire:
		s = fmt.Sprintf("%s %d v%d", kindNames[a.kind], a.node+1, x.setup.Configurations[a.arg].Version)
	case crash:
		s = fmt.Sprintf("crash %d keep=%d", a.node+1, a.arg)
	default:
		s = fmt.Sprintf("%s %d", kindNames[a.kind], a.node+1)
	}
	return s + x.modeText(a)
}

func (x *explorer) modeText(a action) string {
	switch {
	case a.mode == hold:
		return " hold"
	case a.mode >= crashIn:
		readies, keep := a.mode.crash()
		return fmt.Sprintf(" crash-after=%d keep=%d", readies, keep)
	}
	return ""
}
