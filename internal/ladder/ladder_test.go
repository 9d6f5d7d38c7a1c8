package ladder

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestBackUndoesLastFirstAndJoinsErrors(t *testing.T) {
	var l Ladder
	var order []string
	note := func(name string, err error) func(context.Context) error {
		return func(ctx context.Context) error {
			if ctx.Err() != nil {
				t.Errorf("rung %s was undone with a cancelled context", name)
			}
			order = append(order, name)
			return err
		}
	}
	l.Add("unmount", note("unmount", nil))
	l.Add("delete snapshot", note("delete", errors.New("in use")))
	l.Add("close", note("close", nil))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := l.Back(ctx)

	if want := []string{"close", "delete", "unmount"}; !slices.Equal(order, want) {
		t.Errorf("undone in order %v, want %v", order, want)
	}
	if err == nil || !strings.Contains(err.Error(), "delete snapshot: in use") {
		t.Errorf("Back() = %v, want the failing rung named", err)
	}
	if err := l.Back(t.Context()); err != nil || len(order) != 3 {
		t.Errorf("a second walk undid something again: %v, %v", order, err)
	}
}

func TestBackOnKeepsTheFirstError(t *testing.T) {
	var l Ladder
	l.Add("delete image", func(context.Context) error { return errors.New("throttled") })

	first := errors.New("upload failed")
	err := first
	l.BackOn(t.Context(), &err)

	if !errors.Is(err, first) || !strings.Contains(err.Error(), "clean up: delete image: throttled") {
		t.Errorf("BackOn gave %q", err)
	}
}

func TestKeepForgets(t *testing.T) {
	var l Ladder
	l.Add("unmount", func(context.Context) error { t.Error("undone after Keep"); return nil })
	l.Keep()
	if err := l.Back(t.Context()); err != nil {
		t.Error(err)
	}
}
