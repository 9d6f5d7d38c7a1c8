package machine

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// blank makes a disk of nothing.
func blank(t *testing.T) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "volume.raw")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 64<<20); err != nil {
		t.Fatal(err)
	}
	return disk
}

// fill is user data that writes to the volume there was at the start, and to the one that comes later.
const fill = report + `
for device in xvdb xvdf; do
	until [ -b /dev/$device ]; do sleep 0.1; done
	printf 'hello from %s' $device | dd of=/dev/$device bs=1 seek=1000000 conv=notrunc,fsync
	touch /srv/$device
done
`

func TestFurtherVolumesAreDevices(t *testing.T) {
	host := newHost(t)
	spec := specOf(10, copyBase(t), new(console))
	first, second := blank(t), blank(t)
	spec.UserData, spec.Volumes = []byte(fill), []Volume{{Device: "xvdb", Disk: first}}
	machine := launch(t, host, spec)
	get(t, host, spec, "xvdb")
	if err := machine.Attach(Volume{Device: "xvdf", Disk: second}); err != nil {
		t.Fatal(err)
	}
	get(t, host, spec, "xvdf")
	for device, disk := range map[string]string{"xvdb": first, "xvdf": second} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if err := machine.Detach(ctx, device); err != nil {
			t.Error(err)
		}
		cancel()
		content, err := os.ReadFile(disk)
		if err != nil || !bytes.Contains(content, []byte("hello from "+device)) {
			t.Errorf("the detached volume %s has not what the instance wrote (%v)", device, err)
		}
		if loops := loopsOf(t, disk); len(loops) > 0 {
			t.Errorf("the detached volume %s is in use: %v", device, loops)
		}
	}
	if err := machine.Detach(t.Context(), "xvdb"); err == nil || !strings.Contains(err.Error(), "no volume") {
		t.Errorf("detached again: %v", err)
	}
	if err := machine.Attach(Volume{Device: "xvdg", Disk: first}); err != nil {
		t.Fatal(err)
	}
	if err := machine.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if loops := loopsOf(t, first); len(loops) > 0 {
		t.Errorf("after the stop a volume is in use: %v", loops)
	}
}
