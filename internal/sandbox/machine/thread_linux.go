package machine

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs f on an operating system thread that ends with it, so that what f does to the thread's
// namespaces stays with that thread, and what the thread held is let go. It returns at once.
func onThread(f func()) {
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if unix.Gettid() != os.Getpid() {
			f()
			return
		}
		// The main thread never ends, so it must not be the one. While this goroutine keeps it, another gets another.
		taken := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(taken)
			f()
		}()
		<-taken
		runtime.UnlockOSThread()
	}()
}

// within runs f on a thread that is in a network namespace; files and sockets that f opens stay there.
func within(namespace *os.File, f func() error) error {
	result := make(chan error, 1)
	onThread(func() {
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter a network namespace: %w", err)
			return
		}
		result <- f()
	})
	return <-result
}

// newNamespace makes a network namespace that lasts as long as the file, or a process inside it.
func newNamespace() (*os.File, error) {
	var namespace *os.File
	result := make(chan error, 1)
	onThread(func() {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			namespace, err = os.Open("/proc/thread-self/ns/net")
		}
		result <- err
	})
	if err := <-result; err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return namespace, nil
}
