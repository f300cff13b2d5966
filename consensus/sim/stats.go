// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/atlas-edge/atlas/consensus"
)

// Fates says what became of messages. Sent is all but copies; a copy is one that was duplicated, forged, or sent again after
// its sender's restart. Late and overtaking messages are delivered in the end.
type Fates struct {
	Sent, Delivered, Dropped, Cut, ToDead, Nowhere int
	Duplicated, Stale, Forged                      int // copies
	Delayed, Reordered                             int
	Refused                                        int // forged, and not taken
}

// Stats are the figures of a run, or of many.
type Stats struct {
	Seeds   int
	Virtual Time
	Events  int
	Fates   Fates
	Types   [32]int // messages sent, by type

	Crashes, CrashesInside, Restarts, BatchesLost, Torn   int
	Suspends, SyncsFailed, DiskFull, DiskSlow, ClockSteps int
	Cuts, RegionCuts, LinksCut, Clogs, Swizzles, Wipes    int
	RateChanges                                           int
	Campaigns, Won, WonLocal, Steals, Releases, Moves     int
	Proposed, Chosen, StopSigns, SnapshotsSent            int
	SnapshotsTaken, SnapshotsExact, Compactions           int
	Configurations, Retired, Forwarded                    int
	LeaseReads, ConfirmReads                              int
	OpsDone, OpsRefused, OpsNotDone, OpsUnknown           int
	OpsChecked, OpsResolved                               int
	Searched                                              int // operations that porcupine looked at
	Migrations                                            int
	Closed, StaleReads, StaleReadsPast                    int
	HealSum, HealMost                                     Time
	LevelMost                                             Time // from then on, until all had what was chosen
}

func (s *Stats) note(m *consensus.Message) { s.Types[m.Type]++ }

// Add adds the figures of another run.
func (s *Stats) Add(o *Stats) {
	most, level := max(s.HealMost, o.HealMost), max(s.LevelMost, o.LevelMost)
	addInts(s, o)
	s.HealMost, s.LevelMost = most, level
}

// Print writes the figures as the campaign ends with them: of so many seconds, with so many runs at once.
func (s *Stats) Print(w io.Writer, wall float64, jobs int) {
	f := &s.Fates
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) } // a report that cannot be written is seen at once
	p("seeds %d, virtual hours %.1f, events %d, wall %.1f s", s.Seeds, float64(s.Virtual)/3600e9, s.Events, wall)
	p("messages: sent %d, delivered %d, dropped %d, cut %d, to the dead %d; copies: duplicated %d, of an earlier life %d, forged %d (refused %d); delayed %d, overtaking %d",
		f.Sent, f.Delivered, f.Dropped, f.Cut, f.ToDead+f.Nowhere, f.Duplicated, f.Stale, f.Forged, f.Refused, f.Delayed, f.Reordered)
	p("deliveries per second and core, checkers and searches included: %.0f (%d at once)", float64(f.Delivered)/max(wall, 1e-9)/float64(jobs), jobs)
	p("crashes %d (%d inside a turn), restarts %d, batches lost %d, torn %d; suspended %d; syncs failed %d, disk full %d, slow %d; clock steps %d",
		s.Crashes, s.CrashesInside, s.Restarts, s.BatchesLost, s.Torn, s.Suspends, s.SyncsFailed, s.DiskFull, s.DiskSlow, s.ClockSteps)
	p("groups of nodes cut off %d, regions %d, single links cut %d, clogged %d, swizzled %d; nodes wiped %d; clocks that changed their rate %d",
		s.Cuts, s.RegionCuts, s.LinksCut, s.Clogs, s.Swizzles, s.Wipes, s.RateChanges)
	p("campaigns %d (%d of them steals), won %d (%d local), releases %d, moves %d", s.Campaigns, s.Steals, s.Won, s.WonLocal, s.Releases, s.Moves)
	p("proposed %d, chosen %d, snapshots sent %d (%d as of before their batch) and taken %d, compactions %d",
		s.Proposed, s.Chosen, s.SnapshotsSent, s.SnapshotsExact, s.SnapshotsTaken, s.Compactions)
	p("configurations set %d and retired %d, groups migrated %d, stop-signs %d", s.Configurations, s.Retired, s.Migrations, s.StopSigns)
	p("reads under a lease %d, confirmed %d; requests forwarded %d", s.LeaseReads, s.ConfirmReads, s.Forwarded)
	p("logs closed %d, stale reads %d, of which past the last entry %d", s.Closed, s.StaleReads, s.StaleReadsPast)
	p("operations: done %d, refused %d, certainly not done %d, unknown %d; checked %d, unknown resolved %d, searched %d",
		s.OpsDone, s.OpsRefused, s.OpsNotDone, s.OpsUnknown, s.OpsChecked, s.OpsResolved, s.Searched)
	p("progress after heal: mean %.1f s, most %.1f s; then all nodes have all, most %.1f s", float64(s.HealSum)/1e9/float64(max(s.Seeds, 1)),
		float64(s.HealMost)/1e9, float64(s.LevelMost)/1e9)
}

// marks are what a campaign must have seen: each names something rare that the faults are there for.
// shared: only read.
var marks = []string{
	"a crash lost unsynced batches",
	"a failed sync stopped a node",
	"a full disk refused a batch",
	"a message of a configuration that is not known yet",
	"a proposal lost its slot to another",
	"a repeated request was answered from the table",
	"a session had expired",
	"an answer was no longer known",
	"there were too many sessions",
	"a snapshot was ingested",
	"a configuration was established",
	"session duplicate suppressed at apply",
	"stop-sign chosen",
	"support was withdrawn",
	"phase 1 adopted an accepted entry",
	"two nodes thought themselves owners at once",
	"local ballot won",
	"local abandoned for a global promise",
	"lease blocked a stealer",
	"snapshot while stealing",
	"V over two configurations",
	"withdrawal bumped an epoch",
	"cancel dropped a global promise",
	"learner caught up",
	"a released group was taken over",
	"a configuration was retired",
	"a wiped node came back under another name",
	"a read was answered under a lease",
	"a read was confirmed",
	"an owner could not commit",
	"an owner refused a stealer because of its own lease",
	"a node in quarantine refused a stealer",
	"a node that lost its ballot untied others",
	"a campaign was brought up to date by a snapshot",
	"a list of global promises overflowed",
	"a node that is not the owner answered a read",
	"an acceptor was tied to a new epoch",
	"a ballot of a sealed configuration was refused",
	"a change of the configuration outlived its driver",
	"a log was closed",
	"closing was refused for want of a lease",
	"closing was refused for want of clocks that have got there",
	"a state was read past its last entry",
	"a promised clock raised an owner's commit time",
}

// sometimes hits a mark.
func (w *World) sometimes(mark string) {
	if !w.marks[mark] {
		if !slices.Contains(marks, mark) {
			w.fail("mark %q is not in the list", mark)
		}
		w.marks[mark] = true
	}
}

// never names the figures that are 0: faults that were switched on and did nothing, messages that were never sent. What is sent to nodes
// that never were is none of ours to ask for.
func (s *Stats) never() []string {
	var names []string
	var look func(prefix string, v reflect.Value)
	look = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			name := prefix + v.Type().Field(i).Name
			switch f := v.Field(i); f.Kind() {
			case reflect.Struct:
				look(name+".", f)
			case reflect.Array:
			default:
				if f.Int() == 0 && name != "Fates.Nowhere" {
					names = append(names, name)
				}
			}
		}
	}
	look("", reflect.ValueOf(s).Elem())
	for t := range s.Types {
		if name := consensus.MessageType(t).String(); s.Types[t] == 0 && t > 0 && !strings.HasPrefix(name, "MessageType(") {
			names = append(names, "message "+name)
		}
	}
	return names
}

// addInts adds all integers of o, also those of structs and arrays inside, to those of s.
func addInts(s, o *Stats) { addValue(reflect.ValueOf(s).Elem(), reflect.ValueOf(o).Elem()) }

func addValue(s, o reflect.Value) {
	switch s.Kind() {
	case reflect.Struct:
		for i := range s.NumField() {
			addValue(s.Field(i), o.Field(i))
		}
	case reflect.Array:
		for i := range s.Len() {
			addValue(s.Index(i), o.Index(i))
		}
	default:
		s.SetInt(s.Int() + o.Int())
	}
}
