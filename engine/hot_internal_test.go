// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"fmt"
	"testing"

	"github.com/atlas-edge/atlas/engine/storage"
)

func hotVersion(t uint64, value string) storage.Version {
	return storage.Version{Time: t, Value: []byte(value), Size: int64(len(value))}
}

// TestHotFloor: one who read before a commit cannot put what he read in after it, and no reader is given what is later than his time. G7.
func TestHotFloor(t *testing.T) {
	h := newHot()
	k := []byte("t.k")
	h.put(k, 10, hotVersion(5, "five"))
	if v := h.get(k, 10); v == nil || v.version.Time != 5 {
		t.Fatalf("found %+v", v)
	}
	if v := h.get(k, 4); v != nil {
		t.Fatalf("a reader at 4 is given version %d", v.version.Time)
	}
	h.drop(k, 20)
	if v := h.get(k, 30); v != nil {
		t.Fatalf("after the commit at 20, version %d is found", v.version.Time)
	}
	h.put(k, 19, hotVersion(5, "five"))
	if v := h.get(k, 30); v != nil {
		t.Fatalf("read at 19, put in after the commit at 20: version %d is found", v.version.Time)
	}
	h.put(k, 20, hotVersion(20, "twenty"))
	h.put(k, 25, hotVersion(5, "five"))
	if v := h.get(k, 30); v == nil || v.version.Time != 20 {
		t.Fatalf("found %+v, want version 20", v)
	}
	h.put(k, 25, storage.Version{Time: 25, Value: make([]byte, hotValueMax+1)})
	if v := h.get(k, 30); v == nil || v.version.Time != 20 {
		t.Fatal("a value past the limit was kept")
	}
	h.put(k, 26, storage.Version{Time: 26, Value: make([]byte, hotValueMax)})
	if v := h.get(k, 30); v == nil || v.version.Time != 26 {
		t.Fatal("a value at the limit was not kept")
	}
}

// TestHotIsBounded: however much is read, the memory of the cache stays within its limit, and its count of bytes is true.
func TestHotIsBounded(t *testing.T) {
	h := newHot()
	value := string(make([]byte, hotValueMax))
	for i := range 4 * hotBytesMax / hotValueMax {
		k := fmt.Appendf(nil, "t.%d", i)
		h.put(k, uint64(i+1), hotVersion(uint64(i+1), value))
		if i%7 == 0 {
			h.drop(k, uint64(i+1))
		}
	}
	total := 0
	for i := range h.shards {
		sum := 0
		for k, v := range h.shards[i].items {
			sum += len(k) + len(v.version.Value) + hotOverhead
		}
		if sum != h.shards[i].bytes || sum > hotBytesMax/hotShards {
			t.Fatalf("shard %d counts %d bytes, holds %d, limit %d", i, h.shards[i].bytes, sum, hotBytesMax/hotShards)
		}
		total += sum
	}
	if total < hotBytesMax/2 {
		t.Fatalf("%d bytes are kept of %d: it was not filled", total, hotBytesMax)
	}
}
