// SPDX-License-Identifier: AGPL-3.0-only

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// report is the result of a run, as text and as JSON.
type report struct {
	Setting setting `json:"setting"`
	Skipped []string
	Cells   []cellReport  `json:"cells,omitempty"`
	Scale   []scaleFigure `json:"scale,omitempty"`
	Aims    []aim         `json:"aims"`
	Seconds float64       `json:"seconds"`
}

// cellReport is what one peer gave in one cell.
type cellReport struct {
	Load        string   `json:"load"`
	Connections int      `json:"connections"`
	Peer        string   `json:"peer"`
	Unit        string   `json:"unit"`
	Rate        spread   `json:"rate"`
	P50         spread   `json:"p50_us"`
	P99         spread   `json:"p99_us"`
	ServerCPU   float64  `json:"server_cpu_us"`
	ClientCPU   float64  `json:"client_cpu_us"`
	Elsewhere   spread   `json:"elsewhere"`
	Atlas       *spread  `json:"atlas_is,omitempty"`
	Samples     []sample `json:"samples"`
}

// unitOf is what a load's rate and CPU are given in, and how many units of the samples it is.
func unitOf(l load) (string, float64) {
	switch l.Kind {
	case kindScan:
		return "rows", 1
	case kindBlob:
		return "MB", 1e6
	}
	return "ops", 1
}

func cellReports(cells []*cell) []cellReport {
	var all []cellReport
	for _, c := range cells {
		unit, size := unitOf(c.load)
		for i, name := range c.peers {
			samples := c.samples[i]
			r := cellReport{
				Load: c.load.String(), Connections: c.conns, Peer: name, Unit: unit, Samples: samples,
				Rate:      spreadBy(samples, func(s *sample) float64 { return s.rate() / size }),
				P50:       spreadBy(samples, func(s *sample) float64 { return s.P50 }),
				P99:       spreadBy(samples, func(s *sample) float64 { return s.P99 }),
				ServerCPU: cpuPerUnit(samples) * size,
				ClientCPU: spreadBy(samples, func(s *sample) float64 { return s.ClientCPU * 1e6 * size / s.Units }).Median,
				Elsewhere: spreadBy(samples, func(s *sample) float64 { return s.Elsewhere }),
			}
			if atlas := c.of(atlasName); atlas != nil && name != atlasName {
				ratio := ratioOf(atlas, samples)
				r.Atlas = &ratio
			}
			all = append(all, r)
		}
	}
	// Cells lie as they were measured; a table wants all of a load together.
	order := map[string]int{}
	for _, r := range all {
		if _, ok := order[r.Load]; !ok {
			order[r.Load] = len(order)
		}
	}
	slices.SortStableFunc(all, func(a, b cellReport) int { return order[a.Load] - order[b.Load] })
	return all
}

// print writes the tables.
func (r *report) print(w io.Writer) error {
	var b strings.Builder
	r.printSetting(&b)
	last := ""
	for i := range r.Cells {
		c := &r.Cells[i]
		if c.Load != last {
			printCellHead(&b, c)
			last = c.Load
		}
		c.print(&b, i == 0 || r.Cells[i-1].Connections != c.Connections || r.Cells[i-1].Load != c.Load)
	}
	if len(r.Scale) > 0 {
		b.WriteByte('\n')
	}
	for i := range r.Scale {
		r.Scale[i].print(&b)
	}
	names := 58
	for i := range r.Aims {
		names = max(names, len(r.Aims[i].Name))
	}
	fmt.Fprintf(&b, "\n%*s     figure  (least .. most)\n", names+24, "limit")
	for i := range r.Aims {
		r.Aims[i].print(&b, names)
	}
	fmt.Fprintf(&b, "\nThe run took %v.\n", time.Duration(r.Seconds*float64(time.Second)).Round(time.Second))
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *report) printSetting(b *strings.Builder) {
	s := &r.Setting
	fmt.Fprintf(b, "%s\ncommit %s, %s, seed %d\n", s.Command, s.Commit, s.Date.Format(time.RFC3339), s.Seed)
	fmt.Fprintf(b, "%d x %s, %d MB, Linux %s, %s, %s\n", s.Cores, s.CPU, s.MemoryMB, s.Kernel, s.Disk, s.Go)
	fmt.Fprintf(b, "%s\n", s.Plan)
	for _, v := range s.Versions {
		fmt.Fprintf(b, "%s\n", v)
	}
	for _, v := range r.Skipped {
		fmt.Fprintf(b, "skipped: %s\n", v)
	}
	if len(s.SyncMicros) == 2 {
		fmt.Fprintf(b, "append and fdatasync, median: %.0f us before, %.0f us after the run\n", s.SyncMicros[0], s.SyncMicros[1])
	}
	if len(r.Cells) > 0 {
		other := make([]float64, len(r.Cells))
		for i := range r.Cells {
			other[i] = r.Cells[i].Elsewhere.Median
		}
		e := spreadOf(other)
		fmt.Fprintf(b, "CPU that went to neither client nor server: %.0f %% of the machine (%.0f .. %.0f by cell)\n",
			100*e.Median, 100*e.Min, 100*e.Max)
	}
}

func printCellHead(b *strings.Builder, c *cellReport) {
	unit, us := c.Unit+"/s", "us/"+strings.TrimSuffix(c.Unit, "s")
	fmt.Fprintf(b, "\n%-14s %5s  %-7s %10s  %-24s %8s %8s  %10s %10s  %s\n", c.Load, "conns", "", unit, "(least .. most)",
		"p50 us", "p99 us", "server", "client", "atlas is")
	fmt.Fprintf(b, "%79s  %10s %10s\n", "", us, us)
}

func (c *cellReport) print(b *strings.Builder, first bool) {
	conns := ""
	if first {
		conns = strconv.Itoa(c.Connections)
	}
	p50, p99 := grouped(c.P50.Median), grouped(c.P99.Median)
	if c.Unit != "ops" {
		p50, p99 = "", "" // a step is a piece of an answer
	}
	client := fmt.Sprintf("%.1f", c.ClientCPU)
	if c.Peer == pebbleName {
		client = ""
	}
	line := fmt.Sprintf("%-14s %5s  %-7s %10s  %-24s %8s %8s  %10s %10s", "", conns, c.Peer, grouped(c.Rate.Median), rangeText(c.Rate),
		p50, p99, fmt.Sprintf("%.2f", c.ServerCPU), client)
	if c.Atlas != nil {
		line += fmt.Sprintf("  %.2fx (%.2f .. %.2f)", c.Atlas.Median, c.Atlas.Min, c.Atlas.Max)
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}

func rangeText(s spread) string { return "(" + grouped(s.Min) + " .. " + grouped(s.Max) + ")" }

// grouped prints a figure with the digits that matter: none after the point from 100 on, and a comma every three before.
func grouped(v float64) string {
	if v < 100 {
		return fmt.Sprintf("%.3g", v)
	}
	digits := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func (a *aim) print(b *strings.Builder, names int) {
	kind, sign := "aim ", ">="
	if a.Must {
		kind = "must"
	}
	if a.Below {
		sign = "<="
	}
	limit := sign + " " + grouped(a.Limit) + " " + a.Unit
	got, within := "-", ""
	if a.Got != nil {
		got, within = grouped(a.Got.Median), rangeText(*a.Got)
	}
	fmt.Fprintf(b, "%s  %-*s %17s %10s  %-24s %s\n", kind, names, a.Name, limit, got, within, a.mark())
}

// sizeText gives a size in the largest binary unit that divides it.
func sizeText(n int) string {
	for _, u := range []struct {
		bits int
		name string
	}{{30, "GiB"}, {20, "MiB"}, {10, "KiB"}} {
		if n >= 1<<u.bits && n%(1<<u.bits) == 0 {
			return fmt.Sprintf("%d %s", n>>u.bits, u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// write puts the report as JSON into a file.
func (r *report) write(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}
