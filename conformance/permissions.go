// SPDX-License-Identifier: AGPL-3.0-only

package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A permission matrix is a file of lines:
//
//	@principals A B C...   the columns; (none) is a client without a principal
//	@setup A> COMMAND      what A does before each cell, on tables that only this cell uses
//	COMMANDS<tab>CELL<tab>CELL...
//
// COMMANDS are commands parted by ` ; `, with the escapes and {T} of transcripts; a cell is tried by the principal of its
// column. Its outcome is that of the first command that fails, else of all, and must be one of those that the cell names,
// parted by |: `ok` no failure; `absent` the very answer that the principal gets for names that do not exist; `seen` no
// failure, and another answer than that; or the stable word of a failure.

type permissionMatrix struct {
	principals []string
	setup      [][2]string // principal, command
	rows       []permissionRow
}

type permissionRow struct {
	line     int
	commands []string
	cells    []string
}

func parsePermissions(src string) (m permissionMatrix, err error) {
	for i, l := range strings.Split(src, "\n") {
		if strings.TrimSpace(l) == "" || strings.HasPrefix(l, "#") {
			continue
		}
		if list, ok := strings.CutPrefix(l, "@principals "); ok {
			m.principals = strings.Fields(list)
			continue
		}
		if step, ok := strings.CutPrefix(l, "@setup "); ok {
			who, command, _ := strings.Cut(step, "> ")
			m.setup = append(m.setup, [2]string{who, command})
			continue
		}
		fields := slices.DeleteFunc(strings.Split(l, "\t"), func(s string) bool { return s == "" })
		if len(fields) != 1+len(m.principals) {
			return m, fmt.Errorf("line %d has %d cells, want %d: a missing cell is a mistake", i+1, len(fields)-1, len(m.principals))
		}
		m.rows = append(m.rows, permissionRow{i + 1, strings.Split(fields[0], " ; "), fields[1:]})
	}
	return m, nil
}

func (e *env) runPermissions(ctx context.Context, src string) error {
	if err := e.requires("trusted"); err != nil {
		return err
	}
	m, err := parsePermissions(src)
	if err != nil {
		return err
	}
	var failed []error
	err = e.with(ctx, func(c *conn) error {
		for _, r := range m.rows {
			for i, want := range r.cells {
				got, err := e.cell(ctx, c, m, r, m.principals[i])
				if err != nil {
					return fmt.Errorf("line %d: %s: %w", r.line, m.principals[i], err)
				}
				e.permissions.Add(1)
				if !slices.ContainsFunc(strings.Split(want, "|"), func(w string) bool { return slices.Contains(got, w) }) {
					failed = append(failed, fmt.Errorf("line %d: %q by %s is %s, want %s", r.line, r.commands, m.principals[i], got, want))
				}
			}
		}
		return nil
	})
	return errors.Join(append(failed, err)...)
}

// cell sets up tables for one cell and tries it. It returns the names of the outcome.
func (e *env) cell(ctx context.Context, c *conn, m permissionMatrix, r permissionRow, who string) (got []string, err error) {
	p := &player{e: e, vars: map[string]string{"T": e.freshTable()}}
	for _, s := range m.setup {
		if _, err := c.must("PRINCIPAL ASSUME " + s[0]); err != nil {
			return nil, err
		}
		command, err := p.expand(s[1])
		if err != nil {
			return nil, err
		}
		if _, err := c.must(command); err != nil {
			return nil, err
		}
	}
	if who == "(none)" {
		// A principal cannot be put down: a client without one is a new connection.
		fresh, err := e.session(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, fresh.close()) }()
		c = fresh
	} else if _, err := c.must("PRINCIPAL ASSUME " + who); err != nil {
		return nil, err
	}
	answer, word, err := p.attempt(c, r.commands)
	if err != nil || word != "" {
		return []string{word}, err
	}
	p.vars["T"] = e.freshTable()
	nothing, word, err := p.attempt(c, r.commands)
	if err != nil {
		return nil, err
	}
	if word == "" && nothing == answer {
		return []string{"ok", "absent"}, nil
	}
	return []string{"ok", "seen"}, nil
}

// attempt runs the commands up to the first that fails, whose word it returns; else all data that came, with the table's
// name taken out, so that answers for different tables can be compared.
func (p *player) attempt(c *conn, commands []string) (answer, word string, err error) {
	open := false
	for _, command := range commands {
		text, err := p.expand(command)
		if err != nil {
			return "", "", err
		}
		r, err := c.do(text)
		if err != nil {
			return "", "", err
		}
		if r.fail != "" {
			if err := checkErrorLine("ERROR WARN " + r.fail); err != nil {
				return "", "", err
			}
			if open && command != "COMMIT" {
				_, err = c.must("ROLLBACK")
			}
			return "", r.word(), err
		}
		open = open || command == "BEGIN"
		answer += strings.ReplaceAll(strings.Join(r.lines, "\n"), p.vars["T"], "{T}") + "\n"
		for _, b := range r.blobs {
			answer += string(b) + "\n"
		}
	}
	return answer, "", nil
}

// revokedInUse takes a grant back from a client that is in the middle of a transaction, of a walk by pages and of a watch:
// what comes after the answered revocation is decided by it. (G13, G14)
func (e *env) revokedInUse(ctx context.Context) error {
	if err := e.requires("trusted"); err != nil {
		return err
	}
	table := e.freshTable()
	return e.with(ctx, func(owner *conn) error {
		return e.with(ctx, func(user *conn) error {
			return e.with(ctx, func(watching *conn) error {
				return e.revoke(owner, user, watching, table)
			})
		})
	})
}

func (e *env) revoke(owner, user, watching *conn, table string) error {
	for _, s := range []struct {
		c    *conn
		line string
	}{
		{owner, "PRINCIPAL ASSUME owner"},
		{owner, "KEY PUT " + table + ".a 1"},
		{owner, "KEY PUT " + table + ".b 1"},
		{owner, "ACL GRANT " + table + " owner PERMS OWNER"},
		{owner, "ACL GRANT " + table + " user PERMS READ"},
		{owner, "ACL GRANT " + table + " user PERMS WRITE"},
		{owner, "ACL GRANT " + table + ".open user PERMS OWNER"},
		{user, "PRINCIPAL ASSUME user"},
		{watching, "PRINCIPAL ASSUME user"},
		{user, "BEGIN"},
		{user, "KEY GET " + table + ".a"},
		{user, "KEY PUT " + table + ".b 2"},
	} {
		if _, err := s.c.must(s.line); err != nil {
			return err
		}
	}
	lines, err := owner.must("KEY WRITE " + table + ".c VALUE 1")
	if err != nil {
		return err
	}
	w, err := watching.watch(table, versionIn(lines)-1)
	if err != nil {
		return err
	}
	if ev, err := w.next(); err != nil || ev.Key != table+".c" {
		return fmt.Errorf("watch gives %v, want the change of c: %w", ev, err)
	}
	for _, line := range []string{
		"ACL REVOKE " + table + " user PERMS READ", "ACL REVOKE " + table + " user PERMS WRITE", "KEY PUT " + table + ".secret 1",
	} {
		if _, err := owner.must(line); err != nil {
			return err
		}
	}
	// The transaction wrote with a grant that it no longer has.
	r, err := user.do("COMMIT")
	if err != nil {
		return err
	}
	if w := r.word(); w != "denied" && w != "conflict" {
		return fmt.Errorf("a transaction commits with a revoked grant: %q", r.fail)
	}
	if err := errors.Join(owner.want("KEY GET "+table+".b", "VALUE:1", "OK"), user.want("KEY GET "+table+".a", "NOT_FOUND", "OK"),
		user.want("SCAN "+table, "KEYS:0", "OK"), user.refused("KEY PUT "+table+".a 3", "denied")); err != nil {
		return err
	}
	// The watch goes on without what may not be seen, or ends with an error: the next thing it tells is the row that the
	// user may still read.
	if _, err := user.must("KEY PUT " + table + ".open 1"); err != nil {
		return err
	}
	e.operations.Add(6)
	line, err := watching.line()
	if err != nil {
		return err
	}
	if !strings.HasSuffix(line, " "+table+".open") && !strings.HasPrefix(line, "[ID:w] ERROR WARN denied") {
		return fmt.Errorf("after the revocation the watch tells %q", line)
	}
	return nil
}

// secretsAreProven has a client that the server does not know prove who it is, with the wrong secret and the right one.
// (G15)
func (e *env) secretsAreProven(ctx context.Context) (err error) {
	if e.trusted {
		return e.with(ctx, func(c *conn) error {
			name := e.prefix + "person"
			for _, s := range []string{"PRINCIPAL ASSUME admin", "PRINCIPAL SECRET " + name + " a secret of words"} {
				if _, err := c.must(s); err != nil {
					return err
				}
			}
			return e.proveWrongly(c, name)
		})
	}
	c, err := e.unproven(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	key := e.freshTable() + ".k"
	for _, command := range []string{
		"PRINCIPAL ASSUME admin", "PRINCIPAL ASSUME root", "PRINCIPAL ASSUME " + e.Principal, "PRINCIPAL AUTH " + e.Principal + " wrong",
		"PRINCIPAL AUTH nobody-has-this-name wrong", "PRINCIPAL SECRET admin longenough", "KEY GET " + key, "KEY BLOB GET " + key, "KEY PUT " + key + " x", "KEY DEL " + key,
		"KEY WRITE " + key + " IF ABSENT VALUE x", "KEY PUT " + key + " PRINCIPAL admin x", "KEY BLOB SET " + key + " 1\r\nx", "SCAN " + key, "COUNT " + key, "SAMPLE " + key + " 1",
		"ACL GRANT " + key + " x PERMS OWNER", "ACL REVOKE " + key + " x PERMS OWNER", "TABLE LIST", "GROUP LIST",
	} {
		e.badInputs.Add(1)
		if err := c.refused(command, "denied"); err != nil {
			return err
		}
	}
	return c.want("PRINCIPAL WHOAMI", "PRINCIPAL (none)", "OK")
}

// proveWrongly tries wrong secrets and then the right one.
func (e *env) proveWrongly(c *conn, name string) error {
	begun := time.Now()
	for _, wrong := range []string{"a secret of word", "a secret of words "} {
		if err := c.refused("PRINCIPAL AUTH "+name+" "+wrong, "denied"); err != nil {
			return err
		}
		e.badInputs.Add(1)
	}
	if err := c.refused("PRINCIPAL AUTH "+name+"nobody a secret of words", "denied"); err != nil {
		return err
	}
	if time.Since(begun) < time.Millisecond {
		return errors.New("three wrong secrets were answered within a millisecond: the hash is not slow")
	}
	return errors.Join(c.want("PRINCIPAL WHOAMI", "PRINCIPAL admin", "OK"), c.want("PRINCIPAL AUTH "+name+" a secret of words", "OK"),
		c.want("PRINCIPAL WHOAMI", "PRINCIPAL "+name, "OK"))
}
