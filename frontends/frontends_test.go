// SPDX-License-Identifier: AGPL-3.0-only

package frontends_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/atlas-edge/atlas/engine"
	"github.com/atlas-edge/atlas/frontends"
)

// echo is a frontend of a third party: it is known to this package alone.
type echo struct {
	greeting string
	engine   *engine.Engine
	logger   *slog.Logger
	stop     chan struct{}
}

func init() { frontends.Register("echo", newEcho) }

func newEcho(h frontends.Host, raw json.RawMessage) (frontends.Frontend, error) {
	e := &echo{greeting: "hello", engine: h.Engine, logger: h.Logger, stop: make(chan struct{})}
	if raw == nil {
		return e, nil
	}
	var config struct{ Greeting *string }
	if err := json.Unmarshal(raw, &config); err != nil {
		return nil, err
	}
	if config.Greeting == nil {
		return nil, errors.New("no greeting")
	}
	e.greeting = *config.Greeting
	return e, nil
}

func (e *echo) Name() string { return "echo" }

func (e *echo) Serve(ctx context.Context) error {
	select {
	case <-e.stop:
	case <-ctx.Done():
	}
	return nil
}

func (e *echo) Shutdown(context.Context) error {
	close(e.stop)
	return nil
}

var _ frontends.Frontend = (*echo)(nil)

func TestThirdPartyFrontend(t *testing.T) {
	if !slices.Contains(frontends.Names(), "echo") {
		t.Fatalf("names are %q", frontends.Names())
	}
	host := frontends.Host{Engine: new(engine.Engine)}
	f, err := frontends.New("echo", host, json.RawMessage(`{"greeting":"good day"}`))
	if err != nil {
		t.Fatal(err)
	}
	e := f.(*echo)
	if e.Name() != "echo" || e.greeting != "good day" || e.engine != host.Engine || e.logger == nil {
		t.Errorf("made %+v", e)
	}
	served := make(chan error, 1)
	go func() { served <- f.Serve(t.Context()) }() // owner: joined below
	if err := f.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if f, err := frontends.New("echo", host, nil); err != nil || f.(*echo).greeting != "hello" {
		t.Errorf("default: %v, %v", f, err)
	}
}

func TestNewRefuses(t *testing.T) {
	host := frontends.Host{Engine: new(engine.Engine)}
	if _, err := frontends.New("telepathy", host, nil); !errors.Is(err, frontends.ErrUnknownFrontend) || !strings.Contains(err.Error(), `"echo"`) {
		t.Errorf("unknown name: %v", err)
	}
	if _, err := frontends.New("echo", host, json.RawMessage(`{}`)); err == nil || !strings.Contains(err.Error(), `frontend "echo": no greeting`) {
		t.Errorf("bad configuration: %v", err)
	}
	if _, err := frontends.New("echo", frontends.Host{}, nil); err == nil {
		t.Error("no engine is accepted")
	}
}

func TestRegisterPanics(t *testing.T) {
	var r frontends.Registry
	r.Register("one", newEcho)
	for name, register := range map[string]func(){
		"twice":      func() { r.Register("one", newEcho) },
		"no name":    func() { r.Register("", newEcho) },
		"no factory": func() { r.Register("two", nil) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			register()
		})
	}
	if got := r.Names(); !slices.Equal(got, []string{"one"}) {
		t.Errorf("names are %q", got)
	}
}
