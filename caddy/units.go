// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Size is a number of bytes. In the Caddyfile, and as a JSON string, it is a whole number with a unit: B, KB, MB, GB, TB
// are powers of 1000, KiB, MiB, GiB, TiB powers of 1024; case does not matter, and no unit means bytes. In JSON it may
// be a number.
type Size int64

var sizeUnits = [...]struct {
	name  string
	bytes int64
}{
	{"kib", 1 << 10},
	{"mib", 1 << 20},
	{"gib", 1 << 30},
	{"tib", 1 << 40},
	{"kb", 1e3},
	{"mb", 1e6},
	{"gb", 1e9},
	{"tb", 1e12},
	{"b", 1},
	{"", 1},
}

// ParseSize reads a Size from its text.
func ParseSize(text string) (Size, error) {
	digits := strings.TrimRightFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	unit := strings.ToLower(text[len(digits):])
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("size %q: want a whole number and a unit, such as 64MiB", text)
	}
	for _, u := range sizeUnits {
		if u.name != unit {
			continue
		}
		if n > uint64(math.MaxInt64/u.bytes) {
			return 0, fmt.Errorf("size %q is above %d bytes", text, int64(math.MaxInt64))
		}
		return Size(int64(n) * u.bytes), nil
	}
	return 0, fmt.Errorf("size %q: unit %q is none of B, KB, MB, GB, TB, KiB, MiB, GiB, TiB", text, text[len(digits):])
}

// UnmarshalJSON takes a number of bytes, or a string as in the Caddyfile.
func (s *Size) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		size, err := ParseSize(text)
		*s = size
		return err
	}
	return json.Unmarshal(b, (*int64)(s))
}

// String gives the size in the largest binary unit that fits it exactly.
func (s Size) String() string {
	n, unit := int64(s), 0
	for n != 0 && n%1024 == 0 && unit < 4 {
		n, unit = n/1024, unit+1
	}
	return strconv.FormatInt(n, 10) + [...]string{"B", "KiB", "MiB", "GiB", "TiB"}[unit]
}

// Secret is a string that shows itself only in JSON, where Caddy must hold it: formatted or logged it is [redacted].
type Secret string

const redacted = "[redacted]"

// String hides the secret.
func (s Secret) String() string { return redacted }

// GoString hides the secret.
func (s Secret) GoString() string { return redacted }

// LogValue hides the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

func parseDuration(text string) (caddy.Duration, error) {
	d, err := caddy.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("duration %q: want a number and a unit, such as 90s or 10m", text)
	}
	return caddy.Duration(d), nil
}

// checkRange reports a value outside of its bounds, in the words that every option uses.
func checkRange[T int | Size | time.Duration](what string, got, least, most T) error {
	if got < least || got > most {
		return fmt.Errorf("%s %v is outside of %v to %v", what, got, least, most)
	}
	return nil
}
