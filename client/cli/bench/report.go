// SPDX-License-Identifier: AGPL-3.0-only

package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latency is a distribution, in microseconds.
type Latency struct {
	Mean float64 `json:"mean_us"`
	P50  float64 `json:"p50_us"`
	P90  float64 `json:"p90_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p999_us"`
	Max  float64 `json:"max_us"`
}

// OperationResult are the figures of one kind of operation.
type OperationResult struct {
	Name    string  `json:"name"`
	Count   int64   `json:"count"` // that succeeded
	Rate    float64 `json:"per_second"`
	Latency Latency `json:"latency"`
}

// ErrorResult counts the errors of one class.
type ErrorResult struct {
	Class   string `json:"class"`
	Count   uint64 `json:"count"`
	Example string `json:"example"`
}

// Result is what a run measured.
type Result struct {
	Connections int               `json:"connections"`
	Depth       int               `json:"depth"`
	Tagged      bool              `json:"tagged"`
	Mix         string            `json:"mix"`
	Keys        int               `json:"keys"`
	Tables      int               `json:"tables"`
	ValueSize   int               `json:"value_bytes"`
	Skew        string            `json:"skew"`
	TargetRate  float64           `json:"target_per_second,omitempty"`
	Seconds     float64           `json:"seconds"`
	Count       int64             `json:"count"` // replies in the measured time
	Rate        float64           `json:"per_second"`
	Operations  []OperationResult `json:"operations"`
	Missing     uint64            `json:"missing"`
	Prefilled   bool              `json:"prefilled"`
	Rows        float64           `json:"rows_per_second,omitempty"`
	BytesIn     float64           `json:"bytes_in_per_second"`
	BytesOut    float64           `json:"bytes_out_per_second"`
	ServerCPU   *float64          `json:"server_cpu_us_per_operation,omitempty"`
	ClientCPU   *float64          `json:"client_cpu_us_per_operation,omitempty"`
	Errors      []ErrorResult     `json:"errors,omitempty"`
	Lost        int               `json:"connections_lost,omitempty"`
	LostBy      string            `json:"connections_lost_by,omitempty"`
	Cancelled   bool              `json:"cancelled,omitempty"`
}

// merge adds up what the workers counted.
func merge(all []*stats) *stats {
	sum := &stats{errs: make(map[string]uint64), example: make(map[string]string)}
	for _, st := range all {
		for kind, h := range st.latency {
			if h == nil {
				continue
			}
			if sum.latency[kind] == nil {
				sum.latency[kind] = hdrhistogram.New(1_000, int64(latencyMax), 3)
			}
			sum.latency[kind].Merge(h)
		}
		sum.missing += st.missing
		sum.rows += st.rows
		sum.in += st.in
		sum.out += st.out
		sum.lost += st.lost
		if st.lostBy != nil {
			sum.lostBy = st.lostBy
		}
		for class, n := range st.errs {
			sum.errs[class] += n
			sum.example[class] = st.example[class]
		}
	}
	return sum
}

func (r *runner) result(m window, all []*stats) *Result {
	st := merge(all)
	seconds := max(m.elapsed.Seconds(), 1e-9)
	out := &Result{
		Connections: r.o.Connections, Depth: r.o.Depth, Tagged: r.o.Tagged, Mix: r.o.Mix, Keys: r.o.Keys, Tables: r.o.Tables,
		ValueSize: r.o.ValueSize, Skew: r.o.Skew, TargetRate: r.o.Rate,
		Seconds: seconds, Count: m.ops, Rate: float64(m.ops) / seconds,
		Missing: st.missing, Prefilled: r.o.Prefill, Rows: float64(st.rows) / seconds, BytesIn: float64(st.in) / seconds, BytesOut: float64(st.out) / seconds,
		Lost: st.lost, Cancelled: m.cancelled,
	}
	if st.lostBy != nil {
		out.LostBy = st.lostBy.Error()
	}
	for kind, h := range st.latency {
		if h == nil {
			continue
		}
		us := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1e3 }
		out.Operations = append(out.Operations, OperationResult{
			Name: operations[kind].name, Count: h.TotalCount(), Rate: float64(h.TotalCount()) / seconds,
			Latency: Latency{Mean: h.Mean() / 1e3, P50: us(50), P90: us(90), P99: us(99), P999: us(99.9), Max: float64(h.Max()) / 1e3},
		})
	}
	for _, class := range slices.Sorted(maps.Keys(st.errs)) {
		out.Errors = append(out.Errors, ErrorResult{class, st.errs[class], st.example[class]})
	}
	if m.ops > 0 {
		each := func(d time.Duration) *float64 {
			us := float64(d.Nanoseconds()) / 1e3 / float64(m.ops)
			return &us
		}
		if m.server >= 0 {
			out.ServerCPU = each(m.server)
		}
		if m.own > 0 {
			out.ClientCPU = each(m.own)
		}
	}
	return out
}

// print writes the figures, for people or as JSON.
func (r *Result) print(w io.Writer, asJSON bool) error {
	if asJSON {
		data, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_, err = w.Write(append(data, '\n'))
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s connections, depth %d, mix %s, %s keys, %d-byte values, %s, %.2f s\n",
		group(float64(r.Connections)), r.Depth, r.Mix, group(float64(r.Keys)), r.ValueSize, r.Skew, r.Seconds)
	fmt.Fprintf(&b, "%-9s %13s %13s %10s %10s %10s %10s %10s\n", "operation", "count", "per second", "p50", "p90", "p99", "p99.9", "max")
	for _, o := range r.Operations {
		l := o.Latency
		fmt.Fprintf(&b, "%-9s %13s %13s %10s %10s %10s %10s %10s\n", o.Name, group(float64(o.Count)), group(o.Rate), span(l.P50), span(l.P90), span(l.P99), span(l.P999), span(l.Max))
	}
	fmt.Fprintf(&b, "%-9s %13s %13s\n", "total", group(float64(r.Count)), group(r.Rate))
	fmt.Fprintf(&b, "in %s/s, out %s/s", size(r.BytesIn), size(r.BytesOut))
	if r.Rows > 0 {
		fmt.Fprintf(&b, ", %s rows/s", group(r.Rows))
	}
	if r.Missing > 0 {
		fmt.Fprintf(&b, ", %s not found", group(float64(r.Missing)))
		if !r.Prefilled {
			b.WriteString(" (--prefill writes all keys before)")
		}
	}
	b.WriteByte('\n')
	if r.ServerCPU != nil {
		fmt.Fprintf(&b, "server CPU %.2f us an operation", *r.ServerCPU)
	}
	if r.ClientCPU != nil {
		if r.ServerCPU != nil {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "client CPU %.2f us an operation\n", *r.ClientCPU)
	}
	for _, e := range r.Errors {
		fmt.Fprintf(&b, "errors: %s %s, such as %q\n", group(float64(e.Count)), e.Class, e.Example)
	}
	if r.Lost > 0 {
		fmt.Fprintf(&b, "%d connections were lost: %s\n", r.Lost, r.LostBy)
	}
	if r.Cancelled {
		b.WriteString("stopped before the end\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// group writes a number with commas.
func group(f float64) string {
	s := fmt.Sprintf("%.0f", f)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// span writes microseconds.
func span(us float64) string {
	switch {
	case us < 1000:
		return fmt.Sprintf("%.0f us", us)
	case us < 1e6:
		return fmt.Sprintf("%.2f ms", us/1e3)
	}
	return fmt.Sprintf("%.2f s", us/1e6)
}

func size(bytes float64) string {
	for _, unit := range []string{"B", "KiB", "MiB"} {
		if bytes < 1024 {
			return fmt.Sprintf("%.1f %s", bytes, unit)
		}
		bytes /= 1024
	}
	return fmt.Sprintf("%.2f GiB", bytes)
}
