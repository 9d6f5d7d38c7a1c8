package bake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a line of the host's process table.
type process struct {
	pid, parent, session int
	name                 string
	dead                 bool // a zombie
}

// processes reads the host's process table.
func processes() ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // it has ended meanwhile
		}
		if p, ok := parseStat(pid, stat); ok {
			all = append(all, p)
		}
	}
	return all, nil
}

// parseStat reads "pid (name) state parent group session …"; the name may
// itself have spaces and parentheses.
func parseStat(pid int, stat []byte) (process, bool) {
	open, shut := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || shut < open {
		return process{}, false
	}
	fields := strings.Fields(string(stat[shut+1:]))
	if len(fields) < 4 {
		return process{}, false
	}
	parent, err1 := strconv.Atoi(fields[1])
	session, err2 := strconv.Atoi(fields[3])
	return process{
		pid: pid, parent: parent, session: session,
		name: string(stat[open+1 : shut]), dead: fields[0] == "Z" || fields[0] == "X",
	}, err1 == nil && err2 == nil
}

// tree lists a process, its descendants and whatever is in its session.
func tree(pid int) ([]process, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	in := map[int]bool{pid: true}
	var found []process
	for grown := true; grown; {
		grown = false
		all = slices.DeleteFunc(all, func(p process) bool {
			if p.pid != pid && p.session != pid && !in[p.parent] {
				return false
			}
			in[p.pid], grown = true, true
			if !p.dead {
				found = append(found, p)
			}
			return true
		})
	}
	return found, nil
}

// killTree kills a process that leads a session, its descendants and the rest
// of its session. All are stopped before the first is killed, so that none is
// born meanwhile.
func killTree(pid int) error {
	stopped := map[int]bool{}
	for fresh := true; fresh; {
		all, err := tree(pid)
		if err != nil {
			return err
		}
		fresh = false
		for _, p := range all {
			if !stopped[p.pid] {
				stopped[p.pid], fresh = true, true
				if err := signal(p.pid, syscall.SIGSTOP); err != nil {
					return err
				}
			}
		}
	}
	var errs []error
	for p := range stopped {
		errs = append(errs, signal(p, syscall.SIGKILL))
	}
	return errors.Join(errs...)
}

// signal sends a signal; that the process has already ended is no error.
func signal(pid int, s syscall.Signal) error {
	if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %v to process %d: %w", s, pid, err)
	}
	return nil
}

// inside lists the processes in the PID namespace of the process first, but
// for that one and those to spare.
func inside(first int, spare func(pid int) bool) ([]process, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", first))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // with its first process, a namespace ends
	}
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	return slices.DeleteFunc(all, func(p process) bool {
		ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", p.pid))
		return err != nil || p.pid == first || p.dead || ns != own || spare != nil && spare(p.pid)
	}), nil
}

// How long processes have to end by themselves, and then to be gone once
// killed.
const (
	politely = 5 * time.Second
	brutally = 30 * time.Second
)

// stopInside ends the processes that inside lists, first politely, and returns
// their names.
func stopInside(ctx context.Context, first int, spare func(pid int) bool) (names []string, err error) {
	left, err := inside(first, spare)
	if err != nil || len(left) == 0 {
		return nil, err
	}
	for _, p := range left {
		names = append(names, p.name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for _, try := range []struct {
		signal   syscall.Signal
		patience time.Duration
	}{{syscall.SIGTERM, politely}, {syscall.SIGKILL, brutally}} {
		for _, p := range left {
			if err := signal(p.pid, try.signal); err != nil {
				return names, err
			}
		}
		deadline := time.After(try.patience)
		for late := false; len(left) > 0 && !late; {
			select {
			case <-ctx.Done():
				return names, context.Cause(ctx)
			case <-deadline:
				late = true
			case <-time.After(10 * time.Millisecond):
			}
			if left, err = inside(first, spare); err != nil {
				return names, err
			}
		}
	}
	if len(left) > 0 {
		err = fmt.Errorf("process %d (%s) does not end even when killed", left[0].pid, left[0].name)
	}
	return names, err
}
