// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddypki"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func init() {
	caddy.RegisterModule(new(Handler))
	caddy.RegisterModule(new(App))
	caddy.RegisterModule(new(SocketFrontend))
	caddy.RegisterModule(new(TCPFrontend))
	caddy.RegisterModule(new(RegisteredFrontend))
	httpcaddyfile.RegisterHandlerDirective("atlas", parseDirective)
	// Behind what guards a site, such as basic_auth, and before what a site answers with.
	httpcaddyfile.RegisterDirectiveOrder("atlas", httpcaddyfile.Before, "invoke")
	httpcaddyfile.RegisterGlobalOption("atlas", parseGlobal)
	registerCommand()
}

// Handler is the HTTP handler of one node (http.handlers.atlas). It carries the node's options, and answers
//
//	/healthz   200 while the process is well, 503 once the node has stopped because of its disk
//	/readyz    200 while the node serves, else 503
//	/status    what the node is, as JSON
//	/metrics   the metrics of this process, for Prometheus
//
// by their exact paths, GET and HEAD alone. Everything else goes to the next handler. Handlers of one configuration
// with the same data directory must have the same options, and share the node.
type Handler struct {
	Node

	// StatusFrom lists the addresses, or ranges such as 10.0.0.0/8, whose clients may read /status and /metrics; `any`
	// is everyone. Default: this machine's loopback, and Unix sockets.
	StatusFrom []string `json:"status_from,omitempty"`

	plan       *plan
	statusFrom []netip.Prefix
	metrics    http.Handler
}

// CaddyModule names the module.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.atlas", New: func() caddy.Module { return new(Handler) }}
}

// Provision tells the app of the node; it will be opened at start.
func (h *Handler) Provision(ctx caddy.Context) error {
	loaded, err := ctx.App(appName)
	if err != nil {
		return err
	}
	if h.statusFrom, err = parseRanges(h.StatusFrom); err != nil {
		return err
	}
	if err := keepTrustStore(ctx); err != nil {
		return err
	}
	registry := ctx.GetMetricsRegistry()
	h.metrics = promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true,
		// A scrape that Caddy answers by itself shows what it can, too.
		ErrorHandling: promhttp.ContinueOnError,
	})
	h.plan, err = loaded.(*App).add(ctx, &h.Node)
	return err
}

// keepTrustStore makes Caddy's certificate authorities leave the system's trust store alone unless their install_trust
// is true: Caddy's own default would change the machine, and may ask for a password, at the first start. It runs after
// the http app has loaded the authorities that automatic HTTPS needs, and before any app starts.
func keepTrustStore(ctx caddy.Context) error {
	loaded, err := ctx.AppIfConfigured("pki")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, authority := range loaded.(*caddypki.PKI).CAs {
		if authority.InstallTrust == nil {
			authority.InstallTrust = new(bool)
		}
	}
	return nil
}

const statusFromMaxText = "any"

// parseRanges reads addresses and ranges. None is loopback.
func parseRanges(texts []string) ([]netip.Prefix, error) {
	if len(texts) == 0 {
		texts = []string{"127.0.0.0/8", "::1/128"}
	}
	if len(texts) > StatusFromMax {
		return nil, fmt.Errorf("%d address ranges in status_from exceed limit %d", len(texts), StatusFromMax)
	}
	var out []netip.Prefix
	for _, text := range texts {
		if text == statusFromMaxText {
			out = append(out, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
			continue
		}
		if err := checkPlain("status_from", text); err != nil {
			return nil, err
		}
		if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
			out = append(out, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("status_from %q: want an address, a range such as 10.0.0.0/8, or any", visible(text))
		}
		out = append(out, prefix.Masked())
	}
	return out, nil
}

// maySeeStatus judges the connection's own address: headers can say anything.
func (h *Handler) maySeeStatus(r *http.Request) bool {
	if server, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && server.Network() == "unix" {
		return true
	}
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	addr := remote.Addr().Unmap().WithZone("")
	for _, p := range h.statusFrom {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// ServeHTTP answers the node's own paths, and passes on everything else.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	var answer func(http.ResponseWriter, *http.Request)
	restricted := false
	switch r.URL.Path {
	case "/healthz":
		answer = h.serveHealth
	case "/readyz":
		answer = h.serveReady
	case "/status":
		answer, restricted = h.serveStatus, true
	case "/metrics":
		answer, restricted = h.metrics.ServeHTTP, true
	default:
		return next.ServeHTTP(w, r)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return caddyhttp.Error(http.StatusMethodNotAllowed, nil)
	}
	if restricted && !h.maySeeStatus(r) {
		return caddyhttp.Error(http.StatusForbidden, nil)
	}
	w.Header().Set("Cache-Control", "no-store")
	answer(w, r)
	return nil
}

// answerText writes one line; a client that is gone loses nothing but the line.
func answerText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n") // nobody is left to tell
}

func (h *Handler) serveHealth(w http.ResponseWriter, _ *http.Request) {
	if h.plan.dead() {
		answerText(w, http.StatusServiceUnavailable, "dead")
		return
	}
	answerText(w, http.StatusOK, "ok")
}

func (h *Handler) serveReady(w http.ResponseWriter, r *http.Request) {
	err := h.plan.ready()
	switch {
	case err == nil:
		answerText(w, http.StatusOK, "ready")
	case h.maySeeStatus(r):
		answerText(w, http.StatusServiceUnavailable, "not ready: "+oneLine(err))
	default:
		answerText(w, http.StatusServiceUnavailable, "not ready")
	}
}

func (h *Handler) serveStatus(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_ = json.NewEncoder(w).Encode(h.plan.status()) // nobody is left to tell
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
