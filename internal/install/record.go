package install

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/guest"
	"github.com/immutable-server/packer-plugin-immutable/internal/record"
)

// record writes what was installed into the machine's own record and returns
// it: together with that of earlier installations of the same run, in place of
// that of an earlier run, which made the base.
func (p *Plan) record(ctx context.Context, m guest.Machine, system guest.System, files []*packageFile, added, installed []record.Package) (record.Record, error) {
	done, err := earlier(ctx, m)
	if err != nil {
		return record.Record{}, err
	}
	if done.Run != record.Run() {
		done = record.New(record.Base{ID: system.ID, VersionID: system.VersionID, Name: system.Name})
	}
	if len(added) > 0 {
		origin, err := system.Origins(ctx, m)
		if err != nil {
			return record.Record{}, err
		}
		for i := range added {
			added[i].Source = origin(added[i])
		}
	}
	done.Retain(installed)
	done.Add(added...)
	for _, f := range files {
		if slices.ContainsFunc(installed, f.record().Same) {
			done.Add(f.record())
		}
	}
	done.Time = time.Now().UTC().Truncate(time.Second)
	return done, write(ctx, m, done)
}

// earlier is the record that the machine has, the zero one if it has none.
func earlier(ctx context.Context, m guest.Machine) (record.Record, error) {
	text, err := guest.Script(ctx, m, `if [ -e "$1" ]; then cat -- "$1"; fi`, record.Path)
	if err != nil || text == "" {
		return record.Record{}, err
	}
	r, err := record.Unmarshal([]byte(text))
	if err != nil {
		return record.Record{}, fmt.Errorf("%s in the machine: %w; remove it if it is not this plugin's", record.Path, err)
	}
	return r, nil
}

func write(ctx context.Context, m guest.Machine, r record.Record) error {
	text, err := r.Marshal()
	if err != nil {
		return err
	}
	_, err = guest.Output(ctx, m, "mkdir", "-p", "--", path.Dir(record.Path))
	if err == nil {
		err = m.Upload(ctx, record.Path, bytes.NewReader(text), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write %s in the machine: %w", record.Path, err)
	}
	return nil
}
