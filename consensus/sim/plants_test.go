// SPDX-License-Identifier: AGPL-3.0-only

//go:build plants

package sim

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atlas-edge/atlas/internal/failpoint"
	"github.com/atlas-edge/atlas/internal/story"
)

var plantScale = flag.Int("sim.plants", 1, "multiply the budget of seeds of each plant")

// rewriting reports whether docs/reference/plants.md is to be written: with the flag that rewrites stories.
func rewriting() bool { return flag.Lookup("rewrite").Value.String() == "true" }

const plantsFile = "../../docs/reference/plants.md"

// plant is a mistake that the simulator must find within a budget of seeds.
type plant struct {
	site     failpoint.Site
	budget   int
	settings string  // options that are not drawn, for mistakes of a rare corner
	chance   float64 // 0 is always
}

// other are sites that another package's tests answer for, and which.
// shared: only read.
var other = map[failpoint.Site]string{
	failpoint.CommandForgetKeyGrants:    "TestPlantsAreFound of engine/command",
	failpoint.CommandSkipReadSet:        "TestPlantsAreFound of engine/command",
	failpoint.CommandSkipWorm:           "TestPlantsAreFound of engine/command",
	failpoint.ReplicationForgetIndex:    "TestSmallGroupsFindPlants of engine/replication",
	failpoint.ReplicationStampSeveral:   "TestSmallGroupsFindPlants of engine/replication",
	failpoint.ReplicationTellBeforeSync: "TestTellingTooSoonIsFound of engine/replication",
}

// plants is the table.
// shared: only read.
var plants = []plant{
	{site: failpoint.ConsensusAcceptOutside, budget: 1500},
	{site: failpoint.ConsensusAckBeforeSync, budget: 1500},
	{site: failpoint.ConsensusAckGap, budget: 1500},
	{site: failpoint.ConsensusAppendPastStop, budget: 1500},
	{site: failpoint.ConsensusCloseAboveCeiling, budget: 1500},
	{site: failpoint.ConsensusCloseWithoutLease, budget: 1500, settings: "drift=500 leases=true groups=1 regions=5 fn=2 fz=0 clients=8 think=20ms safety=20s stealevery=200ms cutevery=500ms faultfor=2s interval=100ms support=300ms wipeevery=0 reconfigevery=0 wallskew=10s closeevery=10ms ceilingstep=1ms"},
	{site: failpoint.ConsensusCompactUnapplied, budget: 1500},
	{site: failpoint.ConsensusCountHealthy, budget: 1500},
	{site: failpoint.ConsensusCountLearned, budget: 1500},
	{site: failpoint.ConsensusCountNonMember, budget: 1500},
	{site: failpoint.ConsensusCountOldAcks, budget: 1500},
	{site: failpoint.ConsensusCountTwice, budget: 1500},
	{site: failpoint.ConsensusForgetMinEpoch, budget: 1500},
	{site: failpoint.ConsensusForgetTimeBound, budget: 1500, settings: "drift=500 regions=3+3 fn=1 fz=0 homes=true localshare=70 leases=true groups=4 skew=0 clients=4 think=200ms gets=0 safety=20s stealevery=300ms releaseevery=300ms crashevery=2s wipeevery=0 reconfigevery=0 wallskew=10s closeevery=20ms ceilingstep=1ms"},
	{site: failpoint.ConsensusFreeByOlder, budget: 1500},
	{site: failpoint.ConsensusFreeUnretired, budget: 1500},
	{site: failpoint.ConsensusIgnoreAccepted, budget: 1500},
	{site: failpoint.ConsensusIgnoreFort, budget: 1500},
	{site: failpoint.ConsensusIgnorePromisedClock, budget: 1500},
	{site: failpoint.ConsensusLeaseAfterStop, budget: 1500},
	{site: failpoint.ConsensusLeaveGap, budget: 1500},
	{site: failpoint.ConsensusLocalByPromise, budget: 1500},
	{site: failpoint.ConsensusOlderSnapshot, budget: 1500},
	{site: failpoint.ConsensusOmitCommitted, budget: 1500},
	{site: failpoint.ConsensusPerSlotRecovery, budget: 1500, settings: "leases=false groups=1 stealevery=300ms cutevery=1s clients=8"},
	{site: failpoint.ConsensusReadUnconfirmed, budget: 1500},
	{site: failpoint.ConsensusResumeBallot, budget: 1500},
	{site: failpoint.ConsensusShowPromised, budget: 1500},
	{site: failpoint.ConsensusSilentStart, budget: 1500},
	{site: failpoint.ConsensusSkipOldQ1, budget: 1500},
	{site: failpoint.ConsensusSkipQuarantine, budget: 1500},
	{site: failpoint.LivenessBumpBeforeSync, budget: 1500},
	{site: failpoint.LivenessCountFromReceipt, budget: 1500, settings: "leases=true drift=5000 driftbound=5000 gets=70 confirmreads=5 followerreads=0 think=3ms"},
	{site: failpoint.LivenessCountLastRound, budget: 1500, settings: "leases=true drift=5000 driftbound=5000 gets=70 confirmreads=5 followerreads=0 think=3ms"},
	{site: failpoint.LivenessForgetMinEpoch, budget: 1500},
	{site: failpoint.LivenessKeepAfterJump, budget: 1500, settings: "leases=true drift=5000 driftbound=5000 gets=70 confirmreads=5 followerreads=0 think=3ms suspendevery=1s clockfreeze=100"},
	{site: failpoint.LivenessSkipDriftBound, budget: 1500, settings: "leases=true drift=5000 driftbound=5000 gets=70 confirmreads=5 followerreads=0 think=3ms"},
	{site: failpoint.LivenessSkipQuarantine, budget: 1500},
	{site: failpoint.SimApplyOutOfOrder, budget: 1500},
	{site: failpoint.ConsensusOverBeforeSync, budget: 1500},
	{site: failpoint.ConsensusQ2Short, budget: 1500},
	{site: failpoint.SimDedupAtOwner, budget: 1500},
	{site: failpoint.SimEpochForgotten, budget: 1500},
	{site: failpoint.SimLeaseSeenEarly, budget: 1500},
	{site: failpoint.SimPromiseForgotten, budget: 1500},
	{site: failpoint.SimSealForgotten, budget: 1500, settings: "reconfigevery=2s groups=64 skew=0 clients=6 learnsystemlog=4s safety=30s wipeevery=0 crashevery=0 cutevery=0 drop=0 gets=0 think=1s"},
	{site: failpoint.SimSendBeforeSync, budget: 1500},
	{site: failpoint.SimSnapshotWithoutSessions, budget: 1500},
	{site: failpoint.SimSyncErrorSwallowed, budget: 1500},
	{site: failpoint.SimUnknownAsLost, budget: 1500},
	{site: failpoint.SimWithdrawalNotDurable, budget: 1500},
}

// wanted are the mistakes that the design (section 10) and the plan of the tests (section 7) want to be planted, and the sites that they are.
// shared: only read.
var wanted = []struct {
	mistake string
	sites   []failpoint.Site
}{
	{"forget a promise on restart", sites(failpoint.SimPromiseForgotten)},
	{"acknowledge before the sync", sites(failpoint.ConsensusAckBeforeSync, failpoint.SimSendBeforeSync)},
	{"count a duplicate accept", sites(failpoint.ConsensusCountTwice)},
	{"count a non-member", sites(failpoint.ConsensusCountNonMember, failpoint.ConsensusAcceptOutside)},
	{"count who is healthy, or has learned", sites(failpoint.ConsensusCountHealthy, failpoint.ConsensusCountLearned)},
	{"Q2 one short", sites(failpoint.ConsensusQ2Short)},
	{"reuse a ballot after a restart", sites(failpoint.ConsensusResumeBallot)},
	{"count acks of older ballots", sites(failpoint.ConsensusCountOldAcks)},
	{"ignore accepted values in phase 1", sites(failpoint.ConsensusIgnoreAccepted)},
	{"leave what is committed out of a promise", sites(failpoint.ConsensusOmitCommitted)},
	{"recover slot by slot", sites(failpoint.ConsensusPerSlotRecovery)},
	{"leave a gap: in what is applied; in the log of one who acknowledges it", sites(failpoint.ConsensusLeaveGap, failpoint.ConsensusAckGap)},
	{"count an acceptor with a gap towards \"established\"", sites(failpoint.ConsensusAckGap)},
	{"apply out of order", sites(failpoint.SimApplyOutOfOrder)},
	{"deduplicate at the owner only", sites(failpoint.SimDedupAtOwner)},
	{"drop the session table in a snapshot", sites(failpoint.SimSnapshotWithoutSessions)},
	{"install an older snapshot", sites(failpoint.ConsensusOlderSnapshot)},
	{"truncate above applied", sites(failpoint.ConsensusCompactUnapplied)},
	{"serve reads locally because of owning", sites(failpoint.ConsensusReadUnconfirmed)},
	{"serve from a paused owner; look at the lease before the snapshot", sites(failpoint.SimLeaseSeenEarly)},
	{"keep the lease after a stop-sign", sites(failpoint.ConsensusLeaseAfterStop)},
	{"append past a stop-sign", sites(failpoint.ConsensusAppendPastStop)},
	{"skip Q1 of the older configuration", sites(failpoint.ConsensusSkipOldQ1)},
	{"retire without a seal", sites(failpoint.SimSealForgotten)},
	{"look at `Promised` only in a local ballot", sites(failpoint.ConsensusLocalByPromise)},
	{"forget `minEpoch`", sites(failpoint.ConsensusForgetMinEpoch, failpoint.LivenessForgetMinEpoch, failpoint.SimWithdrawalNotDurable)},
	{"no quarantine after a restart", sites(failpoint.ConsensusSkipQuarantine, failpoint.LivenessSkipQuarantine)},
	{"report unknown as failure", sites(failpoint.SimUnknownAsLost)},
	{"swallow a write error", sites(failpoint.SimSyncErrorSwallowed)},
}

func printOther(about map[failpoint.Site]string) string {
	var b strings.Builder
	b.WriteString("| plant | what it does | found by |\n| --- | --- | --- |\n")
	for _, site := range slices.Sorted(maps.Keys(other)) {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", site, about[site], other[site])
	}
	return b.String()
}

func sites(list ...failpoint.Site) []failpoint.Site { return list }

func printWanted() string {
	var b strings.Builder
	b.WriteString("| mistake | planted as |\n| --- | --- |\n")
	for _, w := range wanted {
		var names []string
		for _, s := range w.sites {
			names = append(names, "`"+string(s)+"`")
		}
		fmt.Fprintf(&b, "| %s | %s |\n", w.mistake, strings.Join(names, ", "))
	}
	return b.String()
}

// TestWanted: the page says where each mistake that was to be planted is, and each of the sites is in the table. It has those of other packages too.
func TestWanted(t *testing.T) {
	page, err := os.ReadFile(plantsFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{printWanted(), printOther(descriptions(t))} {
		if !strings.Contains(string(page), table) {
			t.Errorf("%s lacks this, and is written by -run TestPlants -rewrite:\n%s", plantsFile, table)
		}
	}
	for _, w := range wanted {
		for _, s := range w.sites {
			if !slices.ContainsFunc(plants, func(p plant) bool { return p.site == s }) {
				t.Errorf("%s: %s is in no table", w.mistake, s)
			}
		}
	}
}

// found is what a plant took.
type found struct {
	plant   plant
	seeds   int
	seconds float64
	as      string
}

// TestPlants arms each planted mistake and counts the seeds and seconds until it is found:
//
//	go test -tags plants ./consensus/sim -run TestPlants -v [-rewrite]
func TestPlants(t *testing.T) {
	about := descriptions(t)
	var rows []found
	listed := map[failpoint.Site]bool{}
	for _, p := range plants {
		listed[p.site] = true
		t.Run(string(p.site), func(t *testing.T) {
			rows = append(rows, find(t, p))
		})
	}
	for site := range about {
		if !listed[site] && other[site] == "" {
			t.Errorf("plant %s is in no table", site)
		}
	}
	table := printPlants(rows, about)
	fmt.Print(table)
	if rewriting() && !t.Failed() {
		if err := os.WriteFile(plantsFile, []byte(plantsPage(table, printOther(about))), 0o644); err != nil {
			t.Error(err)
		}
	}
}

func find(t *testing.T, p plant) found {
	chance := p.chance
	if chance == 0 {
		chance = 1
	}
	disarm, err := failpoint.Arm(p.site, chance, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { disarm() }()
	begin := time.Now()
	for i := 1; i <= p.budget**plantScale; i++ {
		r, err := Run(uint64(i), strings.Fields(p.settings), nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.Err == nil {
			_, r.Err = search(r.History)
		}
		if r.Err != nil {
			disarm()
			if sane, _ := Run(uint64(i), strings.Fields(p.settings), nil); sane.Err != nil {
				t.Logf("seed %d fails without the plant: %.200v", i, sane.Err)
				if disarm, err = failpoint.Arm(p.site, chance, uint64(i)); err != nil {
					t.Fatal(err)
				}
				continue
			}
			f := found{p, i, time.Since(begin).Seconds(), kindOfFailure(r.Err)}
			t.Logf("found by seed %d in %.1f s: %.300v", i, f.seconds, r.Err)
			return f
		}
	}
	reached, fired := failpoint.Counts(p.site)
	t.Errorf("not found in %d seeds, %.1f s; reached %d times, fired %d", p.budget, time.Since(begin).Seconds(), reached, fired)
	return found{plant: p, as: "NOT FOUND"}
}

// TestStoriesSeePlants: each story is told differently with each plant that it names.
func TestStoriesSeePlants(t *testing.T) { story.RunArmed(t, "testdata/stories", newTale) }

// TestShrink: a failure comes back smaller, and fails alike.
func TestShrink(t *testing.T) {
	disarm, err := failpoint.Arm(failpoint.SimPromiseForgotten, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer disarm()
	for seed := uint64(1); ; seed++ {
		r, err := Run(seed, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.Err == nil || r.Stats.Fates.Delivered < 1000 {
			continue
		}
		const runs = 60
		small, last := Shrink(seed, nil, r.Err, runs, searchOnly)
		if len(small) == 0 || kindOfFailure(last) != kindOfFailure(r.Err) {
			t.Fatalf("%s: %v after %v", Command(seed, small), last, r.Err)
		}
		again, err := Run(seed, small, nil)
		if err != nil || again.Err == nil || again.Err.Error() != last.Error() {
			t.Errorf("%s does not fail as it said: %v, %v", Command(seed, small), again.Err, last)
		}
		if again.Stats.Events > r.Stats.Events {
			t.Errorf("%d events became %d", r.Stats.Events, again.Stats.Events)
		}
		t.Logf("%d deliveries became %d: %s", r.Stats.Fates.Delivered, again.Stats.Fates.Delivered, Command(seed, small))
		return
	}
}

// descriptions reads what the sites do.
func descriptions(t *testing.T) map[failpoint.Site]string {
	src, err := os.ReadFile("../../internal/failpoint/sites.go")
	if err != nil {
		t.Fatal(err)
	}
	about := map[failpoint.Site]string{}
	site := regexp.MustCompile(`(?m)((?:^\t// .*\n)+)\t(\w+) +Site = "([^"]*)"`)
	for _, m := range site.FindAllStringSubmatch(string(src), -1) {
		text := strings.Join(strings.Fields(strings.ReplaceAll(m[1], "//", " ")), " ")
		about[failpoint.Site(m[3])] = strings.TrimPrefix(text, m[2]+" ")
	}
	if len(about) < 10 {
		t.Fatalf("only %d sites are found in sites.go", len(about))
	}
	return about
}

func printPlants(rows []found, about map[failpoint.Site]string) string {
	var b strings.Builder
	b.WriteString("| plant | what it does | tier | seeds | seconds | seen as |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, f := range rows {
		as := f.as
		if as == "" {
			as = "stop of a core"
		}
		fmt.Fprintf(&b, "| `%s` | %s | simulator | %d | %.1f | %s |\n", f.plant.site, about[f.plant.site], f.seeds, f.seconds, as)
	}
	return b.String()
}

func plantsPage(table, others string) string {
	return fmt.Sprintf(`# Planted mistakes

Each is a branch that only a build with the tag `+"`plants`"+` has. The simulator has to find those of the cores within its budget of seeds. Generated by

    go test -tags plants ./consensus/sim -run TestPlants -v -rewrite

at commit %s; seconds are those of one core. "I1" to "I16" are the invariants of the design, section 10, as consensus/sim names them.

%s
## The mistakes that were to be planted

The design, section 10, and the plan of the tests, section 7, list mistakes that must be found. Those that concern the cores are these; the explorer finds "retire
without a seal" besides, by retiring what is not sealed (TestRetireUnsealed of consensus/explore). Stories name the plants that they guard against.

%s
## In other packages

Their own tests have to find these: `+"`go test -tags plants ./engine/...`"+`.

%s`, commit(), table, printWanted(), others)
}
