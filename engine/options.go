// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of options; docs/reference/configuration.md gives them to operators.
const (
	RetentionMin     = time.Second
	RetentionMax     = 365 * 24 * time.Hour
	SweepIntervalMin = 100 * time.Millisecond
	SweepIntervalMax = time.Hour
	CacheBytesMin    = 1 << 20
	CacheBytesMax    = 1 << 40
	LoopsMax         = 64
	GroupIdleMin     = time.Second
	GroupIdleMax     = time.Hour
	RegionLenMax     = 64
	TxnIdleMin       = 100 * time.Millisecond
	TxnIdleMax       = TxnAgeMax
	TxnMemoryMin     = 1 << 20
	TxnMemoryMax     = 1 << 40
)

// EnsureDefaults fills what was left out.
func (o *Options) EnsureDefaults() {
	setDefault(&o.Region, "local")
	setDefault(&o.Advertise, "localhost:4444")
	setDefault(&o.Retention, 10*time.Minute)
	setDefault(&o.SweepInterval, time.Second)
	setDefault(&o.CacheBytes, 64<<20)
	setDefault(&o.Loops, 2)
	setDefault(&o.GroupIdle, 30*time.Second)
	setDefault(&o.TxnIdle, time.Minute)
	setDefault(&o.TxnMemory, 512<<20)
	setDefault(&o.MinFreeBytes, 64<<20)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports every problem at once. Requires: EnsureDefaults was called.
func (o *Options) Validate() error {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("data directory is not set"))
	}
	if err := checkRegion(o.Region); err != nil {
		errs = append(errs, err)
	}
	if _, _, err := splitAdvertise(o.Advertise); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs,
		checkRange("retention", o.Retention, RetentionMin, RetentionMax),
		checkRange("sweep interval", o.SweepInterval, SweepIntervalMin, SweepIntervalMax),
		checkRange("cache bytes", o.CacheBytes, CacheBytesMin, CacheBytesMax),
		checkRange("event loops", o.Loops, 1, LoopsMax),
		checkRange("group idle time", o.GroupIdle, GroupIdleMin, GroupIdleMax),
		checkRange("transaction idle time", o.TxnIdle, TxnIdleMin, TxnIdleMax),
		checkRange("transaction memory", o.TxnMemory, TxnMemoryMin, TxnMemoryMax),
	)
	return errors.Join(errs...)
}

func checkRange[T interface {
	~int | ~int64
}](what string, got, least, most T,
) error {
	if got < least || got > most {
		return fmt.Errorf("%s %v is outside of %v to %v", what, got, least, most)
	}
	return nil
}

func checkRegion(region string) error {
	if len(region) == 0 || len(region) > RegionLenMax {
		return fmt.Errorf("region name length %d is outside of 1 to %d", len(region), RegionLenMax)
	}
	for _, r := range region {
		if r == utf8.RuneError || !unicode.IsPrint(r) || r == ' ' {
			return fmt.Errorf("region name %q holds a blank or a character that does not print", region)
		}
	}
	return nil
}

// splitAdvertise reads host:port with a port of 1-65535.
func splitAdvertise(advertise string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(advertise)
	if err != nil {
		return "", 0, fmt.Errorf("advertise address %q: want host:port", advertise)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("advertise address %q: port is outside of 1 to 65535", advertise)
	}
	if host == "" {
		return "", 0, fmt.Errorf("advertise address %q: host is empty", advertise)
	}
	return host, int(n), nil
}
