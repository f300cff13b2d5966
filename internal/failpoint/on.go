// SPDX-License-Identifier: AGPL-3.0-only

//go:build plants

package failpoint

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Built says whether the tag `plants` is set.
const Built = true

// EnvVar holds what Parse takes; it is read once, at the first Enabled, so that a real process can be started with
// plants in it. Only this build reads it.
const EnvVar = "ATLAS_PLANTS"

// state of one armed site. Guarded by registry.mu.
type state struct {
	probability float64
	rng         *rand.Rand
	reached     uint64
	fired       uint64
}

// shared: by all nodes of a process. This file is in builds for tests only, and a site has no other way to find who
// armed it.
var registry struct {
	once  sync.Once
	mu    sync.Mutex
	armed map[Site]*state
}

// Enabled says whether the site misbehaves this time, and counts the question.
func Enabled(s Site) bool {
	registry.once.Do(armFromEnv)
	registry.mu.Lock()
	defer registry.mu.Unlock()
	st := registry.armed[s]
	if st == nil {
		return false
	}
	st.reached++
	if st.probability < 1 && st.rng.Float64() >= st.probability {
		return false
	}
	st.fired++
	return true
}

// Arm makes a site fire with the probability (0 to 1), drawn from a stream of its own that the seed fixes. It returns
// what disarms it. An unregistered site is an error.
func Arm(s Site, probability float64, seed uint64) (disarm func(), err error) {
	if !slices.Contains(sites(), s) {
		return nil, fmt.Errorf("failpoint %q is not registered", string(s))
	}
	if !(probability >= 0 && probability <= 1) {
		return nil, fmt.Errorf("failpoint %q: probability %v is not between 0 and 1", string(s), probability)
	}
	registry.mu.Lock()
	defer registry.mu.Unlock()
	if registry.armed == nil {
		registry.armed = make(map[Site]*state)
	}
	registry.armed[s] = &state{probability: probability, rng: rand.New(rand.NewPCG(seed, uint64(len(s))))}
	return func() { disarmSite(s) }, nil
}

func disarmSite(s Site) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	delete(registry.armed, s)
}

// Counts says how often an armed site was reached and how often it fired since it was armed.
func Counts(s Site) (reached, fired uint64) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	if st := registry.armed[s]; st != nil {
		return st.reached, st.fired
	}
	return 0, 0
}

// Parse arms what a list says: `name`, `name=probability` or `name=probability@seed`, parted by commas.
func Parse(list string) error {
	for item := range strings.SplitSeq(list, ",") {
		if item == "" {
			continue
		}
		name, rest, given := strings.Cut(item, "=")
		probability, seed := 1.0, uint64(1)
		if given {
			p, s, seeded := strings.Cut(rest, "@")
			var err error
			if probability, err = strconv.ParseFloat(p, 64); err != nil {
				return fmt.Errorf("failpoint %q: probability %q: %w", name, p, err)
			}
			if seeded {
				if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
					return fmt.Errorf("failpoint %q: seed %q: %w", name, s, err)
				}
			}
		}
		if _, err := Arm(Site(name), probability, seed); err != nil {
			return err
		}
	}
	return nil
}

// armFromEnv panics on a bad list: a fault test that runs without its fault would prove nothing.
func armFromEnv() {
	if err := Parse(os.Getenv(EnvVar)); err != nil {
		panic(EnvVar + ": " + err.Error())
	}
}
