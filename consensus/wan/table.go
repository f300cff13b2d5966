// SPDX-License-Identifier: AGPL-3.0-only

package wan

import (
	"fmt"
	"strings"
)

// Table writes results as one table in Markdown: a line for each, with mean, median, 95th and 99th percentile of all regions
// and of each.
func Table(results []*Result) string {
	var b strings.Builder
	b.WriteString("| locality | Fz | owners | requests | answered in the region | moves (pause) | all regions |")
	for _, r := range Regions {
		fmt.Fprintf(&b, " %s |", r)
	}
	b.WriteString("\n|")
	for range 7 + len(Regions) {
		b.WriteString(" --- |")
	}
	b.WriteByte('\n')
	for _, r := range results {
		o := &r.Options
		locality, fz, all := "random", fmt.Sprint(o.Fz), r.All()
		if o.Locality > 0 {
			locality = fmt.Sprintf("%.2f", o.Locality)
		}
		if o.Mode == Leader {
			fz = "–"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %.0f %% | %s | **%.1f** %s |", locality, fz, r.Owners(), len(all),
			100*float64(r.Local)/float64(max(1, len(all))), r.moves(), Mean(all), quantiles(all))
		for _, l := range r.Latency {
			fmt.Fprintf(&b, " %.1f %s |", Mean(l), quantiles(l))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// moves is how many there were, and how long the mean one took.
func (r *Result) moves() string {
	if r.Moves == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%d ms)", r.Moves, r.Pause/Millisecond/uint64(r.Moves))
}

// Owners says where the owners stood.
func (r *Result) Owners() string {
	if r.Options.Mode == Leader {
		return fmt.Sprintf("leader in %s, majorities of %d", Regions[r.Options.LeaderRegion], r.Options.Nodes*len(Regions))
	}
	return r.Options.Mode.String()
}

func quantiles(l []uint32) string {
	return fmt.Sprintf("(%.0f, %.0f, %.0f)", Quantile(l, 0.5), Quantile(l, 0.95), Quantile(l, 0.99))
}
