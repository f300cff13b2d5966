// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/atlas-edge/atlas/engine/command"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestQueueLimits: what waits is bounded by number and by bytes, one command may always wait, and a refusal says that nothing was applied.
func TestQueueLimits(t *testing.T) {
	q := newQueue()
	for i := range queueLenMax {
		if err := q.push(newProposal("g", nil, nil)); err != nil {
			t.Fatalf("command %d of %d: %v", i+1, queueLenMax, err)
		}
	}
	if err := q.push(newProposal("g", nil, nil)); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("one past the limit: %v", err)
	}
	big := newQueue()
	huge := make([]byte, queueBytesMax+1)
	if err := big.push(newProposal("g", huge, nil)); err != nil {
		t.Fatalf("a command alone: %v", err)
	}
	if err := big.push(newProposal("g", huge[:1], nil)); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("past the bytes: %v", err)
	}
	if _, finished := big.take(nil); finished {
		t.Fatal("an open queue is finished")
	}
	if err := big.push(newProposal("g", huge[:1], nil)); err != nil {
		t.Fatalf("after the bytes were taken: %v", err)
	}
	big.close()
	if err := big.push(newProposal("g", nil, nil)); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("after closing: %v", err)
	}
	taken, finished := big.take(nil)
	if len(taken) != 1 || !finished {
		t.Fatalf("a closed queue gives %d, finished %v", len(taken), finished)
	}
}

// TestQueueRounds: a round takes the oldest, up to its limits, and never nothing.
func TestQueueRounds(t *testing.T) {
	q := newQueue()
	payload := make([]byte, batchBytesMax/2+1)
	for _, p := range [][]byte{payload, payload, make([]byte, batchBytesMax+1), nil} {
		if err := q.push(newProposal("g", p, nil)); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []int{1, 1, 1, 1} {
		select {
		case <-q.wake:
		default:
			t.Fatalf("round %d: nothing wakes the loop, and %d commands wait", i, len(q.items))
		}
		if got, _ := q.take(nil); len(got) != want {
			t.Fatalf("round %d takes %d, want %d", i, len(got), want)
		}
	}
	for range batchLenMax + 1 {
		if err := q.push(newProposal("g", nil, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := q.take(nil); len(got) != batchLenMax {
		t.Fatalf("a round takes %d, limit %d", len(got), batchLenMax)
	}
	if got, _ := q.take(nil); len(got) != 1 {
		t.Fatalf("the next takes %d", len(got))
	}
}

// TestProposalsAreUsedAgain: one that was answered and given back carries nothing of the last command.
func TestProposalsAreUsedAgain(t *testing.T) {
	freed := 0
	p := newProposal("g", []byte("payload"), func() { freed++ })
	p.answer(command.Result{Outcome: command.Applied, Version: 7}, ErrUnknown)
	<-p.done
	p.release()
	if freed != 1 {
		t.Fatalf("the payload was freed %d times", freed)
	}
	if p.group != "" || p.payload != nil || p.free != nil || p.err != nil || p.result.Version != 0 {
		t.Fatalf("a proposal that was given back holds %+v", p)
	}
}
