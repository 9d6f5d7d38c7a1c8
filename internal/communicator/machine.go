// Package communicator is the one room that knows Packer's communicators: it
// makes one of a machine being baked, and makes a guest of any of them.
package communicator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/immutable-server/packer-plugin-immutable/internal/bake"
)

// New gives a machine being baked the communicator that provisioners expect.
// It treats paths, slashes at their ends and modes as the SDK's SSH
// communicator does. Transfers run inside the machine, so that no symbolic
// link in the image leads out of it.
func New(m bake.Machine) packersdk.Communicator { return baked{m} }

// baked is the communicator of a machine being baked. The SDK's transfers know
// no context; they end with the machine.
type baked struct {
	machine bake.Machine
}

// noStatus is the exit status of a command that gave none, as ssh(1) has it.
const noStatus = 255

// Start implements packersdk.Communicator.
func (b baked) Start(ctx context.Context, cmd *packersdk.RemoteCmd) error {
	go func() {
		status, err := b.machine.Run(ctx, bake.Command{
			Argv:   []string{"/bin/sh", "-c", cmd.Command},
			Stdin:  cmd.Stdin,
			Stdout: cmd.Stdout,
			Stderr: cmd.Stderr,
		})
		if err != nil {
			status = noStatus
			log.Printf("[ERROR] a command in the machine: %s", err)
		}
		cmd.SetExited(status)
	}()
	return nil
}

// Upload implements packersdk.Communicator. A mode that is given is there
// before the content is.
func (b baked) Upload(dst string, content io.Reader, info *os.FileInfo) error {
	mode := ""
	if info != nil && (*info).Mode().IsRegular() {
		mode = fmt.Sprintf("%04o", (*info).Mode().Perm())
	}
	const script = `if [ -n "$2" ]; then : >>"$1" && chmod "$2" "$1"; fi && cat >"$1"`
	if err := b.run(content, nil, 0, script, dst, mode); err != nil {
		return fmt.Errorf("upload to %s in the machine: %w", dst, err)
	}
	return nil
}

// Download implements packersdk.Communicator.
func (b baked) Download(src string, to io.Writer) error {
	if err := b.run(nil, to, 0, `exec cat <"$1"`, src); err != nil {
		return fmt.Errorf("download %s from the machine: %w", src, err)
	}
	return nil
}

// UploadDir implements packersdk.Communicator: with a slash at the end of src
// its content goes to dst, without, src itself does.
func (b baked) UploadDir(dst, src string, exclude []string) error {
	read, write := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := pack(write, src, exclude)
		packed <- err
		_ = write.CloseWithError(err) // always nil
	}()
	// Links to directories and the modes of directories that the image has
	// stay as they are, and so do the image's owners: files are root's.
	const script = `mkdir -p "$1" && exec tar -x -f - -C "$1" -m -p --no-same-owner --keep-directory-symlink --no-overwrite-dir`
	err := b.run(read, nil, 0, script, dst)
	_ = read.CloseWithError(io.ErrClosedPipe) // always nil
	if packErr := <-packed; packErr != nil && !errors.Is(packErr, io.ErrClosedPipe) {
		err = packErr
	}
	if err != nil {
		return fmt.Errorf("upload directory %s to %s in the machine: %w", src, dst, err)
	}
	return nil
}

// DownloadDir implements packersdk.Communicator. src may be a pattern; each
// file or directory that it names becomes one of that name in dst, whether or
// not it ends in a slash.
func (b baked) DownloadDir(src, dst string, exclude []string) error {
	read, write := io.Pipe()
	unpacked := make(chan error, 1)
	go func() {
		err := unpack(dst, read, exclude)
		unpacked <- err
		_ = read.CloseWithError(err) // always nil
	}()
	// With an empty IFS the pattern is expanded but not split at blanks. Links
	// are followed, as scp does. Tar's status 1 is for files that changed
	// while they were read, as logs do.
	const script = `
IFS=
pattern=$1
set --
for path in $pattern; do
	if [ ! -e "$path" ]; then
		echo "$path: no such file or directory" >&2
		exit 2
	fi
	set -- "$@" -C "$(dirname -- "$path")" "./$(basename -- "$path")"
done
exec tar -c -h --hard-dereference -f - "$@"`
	err := b.run(nil, write, 1, script, src)
	_ = write.CloseWithError(err) // always nil
	if unpackErr := <-unpacked; unpackErr != nil {
		err = unpackErr // which wraps the machine's, where that came first
	}
	if err != nil {
		return fmt.Errorf("download directory %s from the machine to %s: %w", src, dst, err)
	}
	return nil
}

// run runs a shell script with arguments, and makes an error of an exit status
// above worst.
func (b baked) run(stdin io.Reader, stdout io.Writer, worst int, script string, arguments ...string) error {
	var complaint strings.Builder
	status, err := b.machine.Run(context.Background(), bake.Command{
		Argv:   append([]string{"/bin/sh", "-c", script, "sh"}, arguments...),
		Stdin:  stdin,
		Stdout: stdout,
		Stderr: &complaint,
	})
	if err == nil && status > worst {
		err = fmt.Errorf("%s (exit status %d)", strings.TrimSpace(complaint.String()), status)
	}
	return err
}
