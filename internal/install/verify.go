package install

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/guest"
	"github.com/immutable-server/packer-plugin-immutable/internal/record"
)

// verify compares what is installed with the files that were to be, and the
// content of the machine with what the packages say of it.
func verify(ctx context.Context, m guest.Machine, files []*packageFile, named, installed []record.Package) error {
	var wanted []string
	for _, f := range files {
		if err := verifyFile(ctx, m, f, installed); err != nil {
			return err
		}
		wanted = append(wanted, label(f.record()))
	}
	for _, p := range named {
		wanted = append(wanted, label(p))
	}
	if len(wanted) == 0 {
		return nil
	}
	result, err := m.Run(ctx, guest.Command{Argv: append([]string{"rpm", "-V"}, wanted...), Env: []string{guest.C}})
	if err != nil {
		return err
	}
	if result.Status == 0 {
		return nil
	}
	if bad := differences(result.Stdout + result.Stderr); len(bad) > 0 {
		return fmt.Errorf("verify %s: the machine differs from the packages (rpm -V):\n%s", strings.Join(wanted, ", "), strings.Join(bad, "\n"))
	}
	return nil
}

// verifyFile demands the very build that the file has. The package manager
// skips a package in silence if a newer one, or another build with the same
// version, is there already.
func verifyFile(ctx context.Context, m guest.Machine, f *packageFile, installed []record.Package) error {
	p := f.record()
	if !slices.ContainsFunc(installed, p.Same) {
		i := slices.IndexFunc(installed, func(q record.Package) bool { return q.Name == p.Name && q.Arch == p.Arch })
		if i < 0 {
			return fmt.Errorf("verify %s: it is not installed", f.NEVRA())
		}
		return fmt.Errorf("verify %s: %s is installed instead; if the base has it already, give the package a higher version or release", f.NEVRA(), installed[i])
	}
	tag, want := f.HeaderDigest()
	result, err := m.Run(ctx, guest.Command{Argv: []string{"rpm", "-q", "--qf", "%{" + tag + "}", label(p)}, Env: []string{guest.C}})
	if err != nil {
		return err
	}
	if result.Status != 0 || want == "" {
		return nil // a digest that this machine's rpm, or the file, does not have
	}
	if result.Stdout != want {
		return fmt.Errorf("verify %s: another build of the same version and release is installed; if the base has it already, give the package a higher release", f.NEVRA())
	}
	return nil
}

// label names an installed package to rpm. Old versions of it know no epochs
// there.
func label(p record.Package) string {
	return p.Name + "-" + p.Version + "-" + p.Release + "." + p.Arch
}

// differences are the lines of rpm -V that matter: configuration files (marked
// c) and ghosts (g) may be changed by a scriptlet, or by a service that runs.
func differences(out string) []string {
	var bad []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		fields := strings.Fields(line)
		marked := len(fields) >= 3 && (fields[1] == "c" || fields[1] == "g")
		if marked && fields[0] != "missing" {
			continue
		}
		bad = append(bad, line)
	}
	return bad
}

// named are those of the packages that the user asked for by name, in any of
// the forms that dnf and yum know.
func named(sources []source, packages []record.Package) []record.Package {
	return slices.DeleteFunc(slices.Clone(packages), func(p record.Package) bool {
		return !slices.ContainsFunc(sources, func(s source) bool { return s.kind == name && s.names(p) })
	})
}

func (s source) names(p record.Package) bool {
	evr := fmt.Sprintf("%d:%s-%s", p.Epoch, p.Version, p.Release)
	return slices.ContainsFunc([]string{
		p.Name, p.Name + "." + p.Arch, p.Name + "-" + p.Version, p.Name + "-" + p.Version + "-" + p.Release, label(p),
		p.Name + "-" + evr, p.Name + "-" + evr + "." + p.Arch,
	}, func(form string) bool {
		match, err := path.Match(s.entry, form)
		return err == nil && match
	})
}
