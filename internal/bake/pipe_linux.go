package bake

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"time"
)

// A daemon that a command left behind may hold the command's output open for
// ever, and write to it, and must not hold up the bake. These are the bounds of
// what is still listened to once the command has ended.
const (
	idle   = time.Second // how long to wait for more
	drain  = 5 * idle    // how long to wait in all
	unread = 256 << 10   // bytes in all; a pipe holds 64 KiB
)

// outlet carries what a command writes to a writer.
type outlet struct {
	to          io.Writer
	read, write *os.File
	ended       atomic.Bool // the command has ended
	done        chan error
}

// newOutlet makes an outlet. Where nobody listens, nothing is carried.
func newOutlet(to io.Writer) (*outlet, error) {
	o := &outlet{to: to, done: make(chan error, 1)}
	if to == nil {
		return o, nil
	}
	var err error
	if o.read, o.write, err = os.Pipe(); err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	return o, nil
}

// end is the end for the command to write to.
func (o *outlet) end() io.Writer {
	if o.to == nil {
		return nil
	}
	return o.write
}

// start begins to carry; the command must have been started.
func (o *outlet) start() {
	if o.to == nil {
		return
	}
	go func() {
		err := errors.Join(o.write.Close(), o.carry())
		// A receiver that takes no more ends the command, by SIGPIPE.
		o.done <- errors.Join(err, o.read.Close())
	}()
}

// carry copies until every writer has closed the pipe or, once the command
// has ended, until one of the bounds is reached. The time that the receiver
// takes does not count: what the command wrote is never cut off.
func (o *outlet) carry() error {
	buffer := make([]byte, 64<<10)
	patience, room := drain, unread
	for patience > 0 && room > 0 {
		ended, begun := o.ended.Load(), time.Now()
		if ended {
			if err := o.read.SetReadDeadline(begun.Add(min(idle, patience))); err != nil {
				return fmt.Errorf("read the output of a command: %w", err)
			}
		}
		n, err := o.read.Read(buffer)
		if ended {
			patience -= time.Since(begun)
			room -= n
		}
		if n > 0 {
			if _, err := o.to.Write(buffer[:n]); err != nil {
				return fmt.Errorf("pass on the output of a command: %w", err)
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && !ended:
			// Woken by finish.
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return fmt.Errorf("read the output of a command: %w", err)
		}
	}
	return nil
}

// finish is called when the command has ended, and returns when all that it
// wrote has been carried.
func (o *outlet) finish() error {
	if o.to == nil {
		return nil
	}
	// This wakes carry, which sets deadlines of its own from then on; it fails
	// only when all has been carried and the pipe is closed.
	_ = o.read.SetReadDeadline(time.Now())
	o.ended.Store(true)
	return <-o.done
}

// drop closes an outlet whose command could not be started.
func (o *outlet) drop() error {
	if o.to == nil {
		return nil
	}
	return errors.Join(o.read.Close(), o.write.Close())
}

// inlet carries a reader to what a command reads.
type inlet struct {
	from io.Reader
	to   io.WriteCloser
	done chan error
}

func newInlet(cmd *exec.Cmd, from io.Reader) (*inlet, error) {
	i := &inlet{from: from, done: make(chan error, 1)}
	if from == nil {
		return i, nil
	}
	var err error
	if i.to, err = cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	return i, nil
}

// start begins to carry. The error of a reader that fails is there before the
// command sees the end of its input, so that a cut-off input is never taken
// for a whole one.
func (i *inlet) start() {
	if i.from == nil {
		return
	}
	go func() {
		reader := &faithful{Reader: i.from}
		_, err := io.Copy(i.to, reader)
		if err != nil && reader.err == nil {
			err = nil // the command did not want all of its input
		}
		i.done <- err
		// Closing fails only when the command has ended and nobody asks any more.
		_ = i.to.Close()
	}()
}

// result is the reader's error, if it has failed by now.
func (i *inlet) result() error {
	select {
	case err := <-i.done:
		if err != nil {
			return fmt.Errorf("read the input for a command: %w", err)
		}
	default:
	}
	return nil
}

// faithful remembers its reader's error.
type faithful struct {
	io.Reader
	err error
}

func (f *faithful) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}
