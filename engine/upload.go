// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/key"
)

// UploadRoom is how much of an upload's memory lies before its value: whole pages, with room for all of a command but the value.
const UploadRoom = 12 << 10

// A command with one put has a key twice at most, in the mutation and in a condition. Everything else takes less than 2 KiB.
const _ = uint(UploadRoom - 2*key.LenMax - 2<<10)

// Upload is a large value in memory of its own, on its way into the engine. The command that stores it is written around it, so that it
// is in memory once. Whoever is given an Upload owns it: a request that has one frees it, whatever becomes of the request.
type Upload struct {
	mem  []byte
	free func() // nil: it was called, or somebody else is to call it
}

// NewUpload wraps mem, which holds a value from UploadRoom on. free, which is called once and from any goroutine, gives mem back;
// nobody else may use mem from now on. Requires: len(mem) >= UploadRoom.
func NewUpload(mem []byte, free func()) *Upload { return &Upload{mem: mem, free: free} }

// Value is the value, until Release.
func (u *Upload) Value() []byte { return u.mem[UploadRoom:] }

// Release frees the memory, if that was not handed on or freed before. A nil Upload is nothing.
func (u *Upload) Release() {
	if u != nil && u.free != nil {
		u.free()
		u.free = nil
	}
}

// encode gives a command's encoding and what frees it: in place if there is an upload, of which the command's only mutation has the value.
func (u *Upload) encode(c *command.Command) (encoding []byte, free func()) {
	size := c.EncodedSize()
	if u == nil {
		return c.AppendTo(make([]byte, 0, size)), nil
	}
	begin := len(u.mem) - size
	encoding, free = c.AppendTo(u.mem[begin:begin]), u.free
	u.free = nil
	return encoding, free
}
