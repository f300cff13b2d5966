// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/caddyserver/caddy/v2"

	"github.com/atlas-edge/atlas/engine"
	"github.com/atlas-edge/atlas/engine/storage"
)

// Node holds the options of one node. In JSON a number or duration that is 0 or left out takes its default.
type Node struct {
	// Advertise is host:port under which other nodes and QUORUM INFO know this node. Default localhost:4444.
	Advertise string `json:"advertise,omitempty"`
	// Region is the failure domain of this node, 1-64 printable bytes. Default local.
	Region string `json:"region,omitempty"`
	// ClusterID, when set, is the only cluster whose directory may be opened; a new directory gets it, or a random one.
	ClusterID string `json:"cluster_id,omitempty"`
	// Credentials is the secret that the nodes of a cluster share, 1-1024 bytes. The whole value may be a placeholder,
	// {env.NAME} or {file.PATH}, read at start: then Caddy holds only that. Required, or UnsafeNoCredentials.
	Credentials Secret `json:"credentials,omitempty"`
	// DBPath is the data directory; missing parents are made, mode 0700. Required.
	DBPath string `json:"db_path,omitempty"`
	// Connect lists nodes of an existing cluster to join through, https://host:port. Joining is refused at start by
	// this version.
	Connect []string `json:"connect,omitempty"`
	// FrontendsRaw are the frontends, modules of the namespace atlas.frontends. Default: a socket at DBPath/socket.
	FrontendsRaw []json.RawMessage `json:"frontends,omitempty" caddy:"namespace=atlas.frontends inline_key=frontend"`
	// Retention is how long old versions stay readable, 1 s to 365 days. Default 10 min.
	Retention caddy.Duration `json:"retention,omitempty"`
	// SweepInterval is the pause between two collections of old versions, 100 ms to 1 h. Default 1 s.
	SweepInterval caddy.Duration `json:"sweep_interval,omitempty"`
	// CacheSize is the block cache, 1 MiB to 1 TiB. Default 64 MiB.
	CacheSize Size `json:"cache_size,omitempty"`
	// MinFreeSpace is the free disk space below which writes are refused, 1 MiB to 1 PiB. Default 64 MiB.
	MinFreeSpace Size `json:"min_free_space,omitempty"`
	// Loops is the number of event loops, 1-64. Default 2.
	Loops int `json:"loops,omitempty"`
	// GroupIdle is how long an idle group stays in memory, 1 s to 1 h. Default 30 s.
	GroupIdle caddy.Duration `json:"group_idle,omitempty"`
	// TransactionIdle is how long a transaction may go unused before it is rolled back, 100 ms to 4 min 50 s. Default 60 s.
	TransactionIdle caddy.Duration `json:"transaction_idle,omitempty"`
	// TransactionMemory is what all open transactions together may hold of writes and reads, 1 MiB to 1 TiB. Default 512 MiB.
	TransactionMemory Size `json:"transaction_memory,omitempty"`
	// DrainTimeout is how long clients get to finish when a frontend stops, 100 ms to 1 h. Default 10 s.
	DrainTimeout caddy.Duration `json:"drain_timeout,omitempty"`
	// UnsafeNoCredentials lets the node start without a secret. Logged at start.
	UnsafeNoCredentials bool `json:"unsafe_no_credentials,omitempty"`
	// UnsafeNoMinFreeSpace lets writes fill the disk. Logged at start.
	UnsafeNoMinFreeSpace bool `json:"unsafe_no_min_free_space,omitempty"`
}

// EnsureDefaults fills what was left out.
func (n *Node) EnsureDefaults() {
	n.Advertise = cmp.Or(n.Advertise, "localhost:4444")
	n.Region = cmp.Or(n.Region, "local")
	n.Retention = cmp.Or(n.Retention, caddy.Duration(10*time.Minute))
	n.SweepInterval = cmp.Or(n.SweepInterval, caddy.Duration(time.Second))
	n.CacheSize = cmp.Or(n.CacheSize, 64<<20)
	if !n.UnsafeNoMinFreeSpace {
		n.MinFreeSpace = cmp.Or(n.MinFreeSpace, 64<<20)
	}
	n.Loops = cmp.Or(n.Loops, 2)
	n.GroupIdle = cmp.Or(n.GroupIdle, caddy.Duration(30*time.Second))
	n.TransactionIdle = cmp.Or(n.TransactionIdle, caddy.Duration(time.Minute))
	n.TransactionMemory = cmp.Or(n.TransactionMemory, 512<<20)
	n.DrainTimeout = cmp.Or(n.DrainTimeout, caddy.Duration(DrainTimeoutDefault))
}

// problem is what is wrong with an option: with its nth value, from 0, where it has several.
type problem struct {
	option string
	nth    int
	err    error
}

// Validate reports every problem at once, and no secret. It touches no file. Requires: EnsureDefaults was called.
func (n *Node) Validate() error {
	var errs []error
	for _, p := range n.problems() {
		errs = append(errs, p.err)
	}
	return errors.Join(errs...)
}

// problems are those of Validate, each with the option that is to be mended.
func (n *Node) problems() []problem {
	var found []problem
	check := func(option string, err error) {
		if err != nil {
			found = append(found, problem{option: option, err: err})
		}
	}
	check("advertise", checkHostPort("advertise", n.Advertise))
	check("region", checkRegion(n.Region))
	check("cluster_id", checkClusterID(n.ClusterID))
	if n.Credentials != "" && n.UnsafeNoCredentials {
		check("unsafe_no_credentials", errors.New("credentials and unsafe_no_credentials exclude each other"))
	} else {
		check("credentials", n.checkCredentials())
	}
	check("db_path", checkPath("db_path", n.DBPath))
	found = append(found, n.connectProblems()...)
	duration := func(option string, got caddy.Duration, least, most time.Duration) {
		check(option, checkRange(option, time.Duration(got), least, most))
	}
	duration("retention", n.Retention, engine.RetentionMin, engine.RetentionMax)
	duration("sweep_interval", n.SweepInterval, engine.SweepIntervalMin, engine.SweepIntervalMax)
	check("cache_size", checkRange("cache_size", n.CacheSize, cacheSizeMin, cacheSizeMax))
	check("loops", checkRange("loops", n.Loops, 1, engine.LoopsMax))
	duration("group_idle", n.GroupIdle, engine.GroupIdleMin, engine.GroupIdleMax)
	duration("transaction_idle", n.TransactionIdle, engine.TxnIdleMin, engine.TxnIdleMax)
	check("transaction_memory", checkRange("transaction_memory", n.TransactionMemory, engine.TxnMemoryMin, engine.TxnMemoryMax))
	duration("drain_timeout", n.DrainTimeout, DrainTimeoutMin, DrainTimeoutMax)
	switch {
	case !n.UnsafeNoMinFreeSpace:
		check("min_free_space", checkRange("min_free_space", n.MinFreeSpace, MinFreeSpaceMin, MinFreeSpaceMax))
	case n.MinFreeSpace != 0:
		check("unsafe_no_min_free_space", errors.New("min_free_space and unsafe_no_min_free_space exclude each other"))
	}
	check("frontend", checkFrontendCount(len(n.FrontendsRaw)))
	return found
}

func checkFrontendCount(got int) error {
	if got > FrontendsMax {
		return fmt.Errorf("%d frontends exceed limit %d", got, FrontendsMax)
	}
	return nil
}

func (n *Node) checkCredentials() error {
	secret := string(n.Credentials)
	if secret == "" && !n.UnsafeNoCredentials {
		return errors.New("credentials is empty: give a secret, or say unsafe_no_credentials")
	}
	if err := checkPlaceholder(secret); err != nil {
		return err
	}
	return checkSecret(secret)
}

// otherPlaceholder is what Caddy replaces elsewhere, or what was to be one of ours.
var otherPlaceholder = regexp.MustCompile(`^\{[a-zA-Z_]+\.[a-zA-Z0-9_./-]+\}$`)

// checkPlaceholder refuses what was meant to be replaced and would be the secret as it is written, which others can guess.
func checkPlaceholder(secret string) error {
	name, opens := strings.CutPrefix(secret, "{")
	name, closes := strings.CutSuffix(name, "}")
	ours := strings.HasPrefix(name, "env.") || strings.HasPrefix(name, "file.")
	switch {
	case opens && closes && ours && !strings.ContainsAny(name, "{}"):
		return nil
	case otherPlaceholder.MatchString(secret):
		return errors.New("credentials is a placeholder that is not replaced: {env.NAME} and {file./path} are")
	case strings.Contains(secret, "{env."), strings.Contains(secret, "{file."):
		return errors.New("credentials holds a placeholder beside other text: its whole value may be one")
	}
	return nil
}

// checkSecret holds for what a placeholder stands for, too. Its errors do not show the secret.
func checkSecret(secret string) error {
	if secret != "" && strings.TrimSpace(secret) == "" {
		return errors.New("credentials is blank")
	}
	if len(secret) > CredentialsLenMax {
		return fmt.Errorf("credentials length %d exceeds limit %d", len(secret), CredentialsLenMax)
	}
	if strings.ContainsFunc(secret, unicode.IsControl) {
		return errors.New("credentials holds a control character")
	}
	return nil
}

// secret gives the value of Credentials, reading the environment or file that a placeholder names: for start alone.
func (n *Node) secret() (string, error) {
	text := string(n.Credentials)
	name, opens := strings.CutPrefix(text, "{")
	name, closes := strings.CutSuffix(name, "}")
	if !opens || !closes || (!strings.HasPrefix(name, "env.") && !strings.HasPrefix(name, "file.")) {
		return text, nil
	}
	got, ok := caddy.NewReplacer().GetString(name)
	got = strings.TrimRight(got, "\r\n")
	if !ok || got == "" {
		return "", fmt.Errorf("credentials: placeholder {%s} gives nothing", name)
	}
	if err := checkSecret(got); err != nil {
		return "", err
	}
	return got, nil
}

func (n *Node) connectProblems() []problem {
	if got := len(n.Connect); got > ConnectMax {
		return []problem{{"connect", ConnectMax, fmt.Errorf("%d connect addresses exceed limit %d", got, ConnectMax)}}
	}
	var found []problem
	seen := make(map[string]bool)
	for i, text := range n.Connect {
		peer, err := parsePeer(text)
		switch {
		case err != nil:
		case sameAddress(peer, n.Advertise):
			err = fmt.Errorf("connect %q is this node's own advertise address %q: a node does not join itself", text, n.Advertise)
		case seen[peer]:
			err = fmt.Errorf("connect %q is given twice", text)
		}
		if err != nil {
			found = append(found, problem{"connect", i, err})
		}
		seen[peer] = true
	}
	return found
}

// parsePeer gives host:port of https://host[:port].
func parsePeer(text string) (string, error) {
	// What stands before an @ may be a password: no error below shows one.
	if strings.Contains(text, "@") {
		return "", errors.New("connect: the address holds a user or password; want https://host:port")
	}
	if err := checkPlain("connect", text); err != nil {
		return "", err
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Hostname() == "" {
		return "", fmt.Errorf("connect %q: want https://host:port", visible(text))
	}
	if u.Scheme != "https" {
		return "", fmt.Errorf("connect %q: scheme %q is not https", text, u.Scheme)
	}
	if (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("connect %q: want no more than https://host:port", text)
	}
	hostPort := net.JoinHostPort(strings.ToLower(u.Hostname()), cmp.Or(u.Port(), "443"))
	return hostPort, checkHostPort("connect", hostPort)
}

// sameAddress tells whether two host:port reach the same listener as far as names can tell: all names of this
// machine's loopback are one.
func sameAddress(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB {
		return false
	}
	return strings.EqualFold(hostA, hostB) || (isLoopback(hostA) && isLoopback(hostB))
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return (err == nil && ip.IsLoopback()) || strings.EqualFold(host, "localhost")
}

func checkHostPort(option, text string) error {
	if err := checkPlain(option, text); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" || strings.ContainsFunc(host, notInHost) {
		return fmt.Errorf("%s %q: want host:port", option, visible(text))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%s %q: port %q is outside of 1 to 65535", option, visible(text), visible(port))
	}
	return nil
}

func notInHost(r rune) bool {
	return r <= ' ' || strings.ContainsRune(`/\{}"'`, r) || !unicode.IsPrint(r)
}

func checkRegion(region string) error {
	if err := checkPlain("region", region); err != nil {
		return err
	}
	if len(region) > engine.RegionLenMax {
		return fmt.Errorf("region length %d exceeds limit %d", len(region), engine.RegionLenMax)
	}
	if strings.ContainsFunc(region, func(r rune) bool { return r == unicode.ReplacementChar || r == ' ' || !unicode.IsPrint(r) }) {
		return fmt.Errorf("region %q holds a blank or a character that does not print", region)
	}
	return nil
}

func checkClusterID(id string) error {
	if id == "" {
		return nil // any, or a random one
	}
	if err := checkPlain("cluster_id", id); err != nil {
		return err
	}
	if err := storage.CheckClusterID(id); err != nil {
		return fmt.Errorf("cluster_id %w", err)
	}
	return nil
}

// checkPlain refuses a placeholder anywhere in an option's value: taken as it is written, it would name a region or make a
// directory. Credentials alone take placeholders. It refuses one that is not closed, too.
func checkPlain(option, value string) error {
	if strings.Contains(value, "{") {
		return fmt.Errorf("%s %q holds a {: placeholders are not replaced here; the Caddyfile replaces {$NAME}", option, visible(value))
	}
	return nil
}

// checkPath looks at the text alone.
func checkPath(option, path string) error {
	if err := checkPlain(option, path); err != nil {
		return err
	}
	switch {
	case path == "":
		return fmt.Errorf("%s is not set", option)
	case strings.HasPrefix(path, "~"):
		return fmt.Errorf("%s %q begins with ~, which only a shell replaces: write the whole path, or ./~", option, visible(path))
	case strings.ContainsFunc(path, unicode.IsControl):
		return fmt.Errorf("%s %q holds a control character", option, path)
	case filepath.Clean(path) == string(filepath.Separator):
		return fmt.Errorf("%s %q is the root of the file system", option, path)
	}
	return nil
}

// oneLine shows joined errors in one line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// visible makes a wrong argument fit for an error.
func visible(text string) string {
	const most = 200
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}

// setting is one option with its value as text, to tell what a reload changes.
type setting struct{ name, value string }

// fixed lists what a running node cannot change. Requires: EnsureDefaults was called.
func (n *Node) fixed() []setting {
	return []setting{
		{"advertise", n.Advertise},
		{"region", n.Region},
		{"cluster_id", n.ClusterID},
		{"retention", time.Duration(n.Retention).String()},
		{"sweep_interval", time.Duration(n.SweepInterval).String()},
		{"cache_size", n.CacheSize.String()},
		{"min_free_space", n.MinFreeSpace.String()},
		{"loops", strconv.Itoa(n.Loops)},
		{"group_idle", time.Duration(n.GroupIdle).String()},
		{"transaction_idle", time.Duration(n.TransactionIdle).String()},
		{"transaction_memory", n.TransactionMemory.String()},
		{"unsafe_no_min_free_space", strconv.FormatBool(n.UnsafeNoMinFreeSpace)},
	}
}

// differences lists the fixed options of a node that another configuration of it would change.
func (n *Node) differences(other *Node) []string {
	var out []string
	theirs := other.fixed()
	for i, s := range n.fixed() {
		if s != theirs[i] {
			out = append(out, fmt.Sprintf("%s %q to %q", s.name, s.value, theirs[i].value))
		}
	}
	return out
}

// engineOptions gives what the engine is opened with.
func (n *Node) engineOptions(dir string) engine.Options {
	o := engine.Options{
		Dir:           dir,
		ClusterID:     n.ClusterID,
		Region:        n.Region,
		Advertise:     n.Advertise,
		Retention:     time.Duration(n.Retention),
		SweepInterval: time.Duration(n.SweepInterval),
		CacheBytes:    int64(n.CacheSize),
		Loops:         n.Loops,
		GroupIdle:     time.Duration(n.GroupIdle),
		TxnIdle:       time.Duration(n.TransactionIdle),
		TxnMemory:     int64(n.TransactionMemory),
		MinFreeBytes:  int64(n.MinFreeSpace),
	}
	if n.UnsafeNoMinFreeSpace {
		o.MinFreeBytes = -1
	}
	return o
}
