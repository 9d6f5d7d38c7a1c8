package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/guest"
	"github.com/immutable-server/packer-plugin-immutable/internal/ladder"
	"github.com/immutable-server/packer-plugin-immutable/internal/record"
)

// settle is how long services have to show that they stay up.
const settle = 2 * time.Second

// cleanCaches removes what "clean all" leaves: the caches of other releases
// and of repositories that are gone.
const cleanCaches = `for dir in /var/cache/dnf /var/cache/yum; do
  if [ -d "$dir" ]; then find "$dir" -xdev -mindepth 1 -delete; fi
done`

// Run carries the plan out and returns what it installed. Whether it succeeds
// or not, what it put into the machine to work with is removed again.
func (p *Plan) Run(ctx context.Context, m guest.Machine, ui Ui) (_ record.Record, err error) {
	var temporary ladder.Ladder
	defer func() { err = errors.Join(err, temporary.Back(ctx)) }()

	system, err := guest.Survey(ctx, m)
	if err != nil {
		return record.Record{}, err
	}
	sources, errs := p.sources()
	if err := errors.Join(errs...); err != nil {
		return record.Record{}, err
	}
	files, err := p.gather(ctx, sources, system, &temporary, ui)
	if err != nil {
		return record.Record{}, err
	}
	if err := p.putRepositories(ctx, m, &temporary); err != nil {
		return record.Record{}, err
	}

	before, err := guest.Installed(ctx, m)
	if err != nil {
		return record.Record{}, err
	}
	if err := p.change(ctx, m, system, sources, files, &temporary, ui); err != nil {
		return record.Record{}, err
	}
	after, err := guest.Installed(ctx, m)
	if err != nil {
		return record.Record{}, err
	}
	added := slices.DeleteFunc(slices.Clone(after), func(q record.Package) bool { return slices.ContainsFunc(before, q.Same) })

	if p.Verify {
		if err := verify(ctx, m, files, named(sources, added), after); err != nil {
			return record.Record{}, err
		}
	}
	if err := p.startServices(ctx, m, system, ui); err != nil {
		return record.Record{}, err
	}
	done, err := p.record(ctx, m, system, files, added, after)
	if err != nil {
		return record.Record{}, err
	}
	if p.Clean {
		if _, err := guest.Output(ctx, m, p.command(system.Manager, "clean", "all")...); err != nil {
			return record.Record{}, fmt.Errorf("clean the package caches: %w", err)
		}
		if _, err := guest.Script(ctx, m, cleanCaches); err != nil {
			return record.Record{}, fmt.Errorf("clean the package caches: %w", err)
		}
	}
	return done, nil
}

// gather has every file on this host, open and verified, before anything is
// done to the machine.
func (p *Plan) gather(ctx context.Context, sources []source, system guest.System, temporary *ladder.Ladder, ui Ui) ([]*packageFile, error) {
	keys, err := p.keys()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "immutable-rpm-")
	if err != nil {
		return nil, err
	}
	temporary.Add("remove "+dir, func(context.Context) error { return os.RemoveAll(dir) })

	var files []*packageFile
	for i, s := range sources {
		path := s.path
		switch s.kind {
		case name:
			continue
		case web, object:
			path = filepath.Join(dir, fmt.Sprintf("%d.rpm", i))
			if err := p.fetch(ctx, s, path, ui); err != nil {
				return nil, err
			}
		}
		f, err := p.open(s, path, keys)
		if err != nil {
			return nil, err
		}
		temporary.Add("close "+path, func(context.Context) error { return f.Close() })
		if !runsOn(f.Arch, system.Arch) {
			return nil, fmt.Errorf("packages: %s is for %s and the machine is %s; build the package for %s, or bake a base of the other architecture", s.label(), f.Arch, system.Arch, system.Arch)
		}
		files = append(files, f)
	}
	return files, errors.Join(checkTogether(files)...)
}

func (p *Plan) putRepositories(ctx context.Context, m guest.Machine, temporary *ladder.Ladder) error {
	for _, r := range p.Repositories {
		if !r.Keep {
			temporary.Add("remove the repository "+r.ID, func(ctx context.Context) error { return r.remove(ctx, m) })
		}
		if err := r.put(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// change updates the machine and installs the packages: all in one
// transaction, so that the package manager resolves them against each other.
func (p *Plan) change(ctx context.Context, m guest.Machine, system guest.System, sources []source, files []*packageFile, temporary *ladder.Ladder, ui Ui) error {
	if argv := p.update(system.Manager); argv != nil {
		ui.Say("Updating the machine (" + p.Update + ")")
		if err := transact(ctx, m, argv, ui); err != nil {
			return fmt.Errorf("update the machine: %w", err)
		}
	}
	if len(sources) == 0 {
		return nil
	}

	targets, err := upload(ctx, m, files, temporary, ui)
	if err != nil {
		return err
	}
	var labels []string
	for _, s := range sources {
		if s.kind == name {
			targets = append(targets, s.entry)
		}
		labels = append(labels, s.label())
	}
	ui.Say("Installing " + strings.Join(labels, ", "))
	if err := transact(ctx, m, p.command(system.Manager, append([]string{"install"}, targets...)...), ui); err != nil {
		return fmt.Errorf("install %s: %w", strings.Join(labels, ", "), err)
	}
	return nil
}

// upload brings the files into a directory that only root can look into.
func upload(ctx context.Context, m guest.Machine, files []*packageFile, temporary *ladder.Ladder, ui Ui) (paths []string, err error) {
	if len(files) == 0 {
		return nil, nil
	}
	made, err := guest.Output(ctx, m, "mktemp", "-d", "/var/tmp/immutable-rpm.XXXXXXXXXX")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the packages in the machine: %w", err)
	}
	dir := strings.TrimSpace(made)
	temporary.Add("remove "+dir+" from the machine", func(ctx context.Context) error {
		_, err := guest.Output(ctx, m, "rm", "-rf", "--", dir)
		return err
	})
	for _, f := range files {
		line := "Uploading " + f.NEVRA() + ", " + f.Digest
		if f.signer != "" {
			line += ", signed by " + f.signer
		}
		ui.Say(line)
		path := dir + "/" + f.FileName()
		if err := m.Upload(ctx, path, f.Reader(), 0o600); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// startServices enables the services and, where systemd runs, starts them and
// sees that they stay up. One that ran already is restarted: what was
// installed shall run.
func (p *Plan) startServices(ctx context.Context, m guest.Machine, system guest.System, ui Ui) error {
	for _, service := range p.Services {
		if err := guest.Enable(ctx, m, service); err != nil {
			return err
		}
	}
	if !system.Booted || len(p.Services) == 0 {
		return nil
	}
	for _, service := range p.Services {
		if err := guest.Restart(ctx, m, service); err != nil {
			return err
		}
	}
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	for _, service := range p.Services {
		if err := guest.Active(ctx, m, service); err != nil {
			return err
		}
	}
	ui.Say("Active: " + strings.Join(p.Services, ", "))
	return nil
}
