// SPDX-License-Identifier: AGPL-3.0-only

package consensuspb

// Limits, in bytes unless said otherwise. Those of what has codecs of its own are in package consensus. The generated code
// knows none: who reads holds lengths against these first.
const (
	// NodeRecordLenMax bounds a NodeRecord: 65,536 nodes whose support was withdrawn.
	NodeRecordLenMax = 2 << 20
	// SystemEntryLenMax bounds a SystemEntry: a configuration of 256 voters with the longest names, and 1,024 learners.
	SystemEntryLenMax = 64 << 10
	// FrameLenMax bounds a Frame: one message of the largest size, and what goes with it.
	FrameLenMax = 1<<30 + 1<<20
	// FrameGroupsMax bounds the groups of a frame, in number.
	FrameGroupsMax = 1 << 16
	// GroupNameLenMax bounds the name of a group.
	GroupNameLenMax = 128
)
