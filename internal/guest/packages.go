package guest

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/record"
)

// queryFormat has what names a package, a tab between the fields.
const queryFormat = `%{NAME}\t%{EPOCH}\t%{VERSION}\t%{RELEASE}\t%{ARCH}\n`

// Installed returns every package in the machine's rpm database. Its imported
// keys, which rpm keeps as packages, are left out.
func Installed(ctx context.Context, m Machine) ([]record.Package, error) {
	out, err := Output(ctx, m, "rpm", "-qa", "--qf", queryFormat)
	if err != nil {
		return nil, fmt.Errorf("list the installed packages: %w", err)
	}
	var all []record.Package
	for line := range strings.Lines(out) {
		fields := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(fields) != 5 {
			return nil, fmt.Errorf("list the installed packages: rpm printed %q", line)
		}
		if fields[0] == "gpg-pubkey" {
			continue
		}
		p := record.Package{Name: fields[0], Version: fields[2], Release: fields[3], Arch: fields[4]}
		if fields[1] != "(none)" {
			if p.Epoch, err = strconv.Atoi(fields[1]); err != nil {
				return nil, fmt.Errorf("list the installed packages: rpm gave %s the epoch %q", p.Name, fields[1])
			}
		}
		all = append(all, p)
	}
	return all, nil
}

// yumOrigins prints the files in which yum keeps the repository of a package:
// /var/lib/yum/yumdb/h/<checksum>-hello-1.0-1-x86_64/from_repo.
const yumOrigins = `cd /var/lib/yum/yumdb 2>/dev/null || exit 0
for file in */*/from_repo; do
  [ -f "$file" ] && printf '%s\t%s\n' "$file" "$(cat "$file")"
done
exit 0`

// Origins tells from which repository a package came, "" where the package
// manager does not know. Files given to it have no repository.
func (s System) Origins(ctx context.Context, m Machine) (func(record.Package) string, error) {
	if s.Manager == Yum {
		out, err := Script(ctx, m, yumOrigins)
		if err != nil {
			return nil, fmt.Errorf("ask yum where packages came from: %w", err)
		}
		return yumOrigin(out), nil
	}
	out, err := Output(ctx, m, "dnf", "-q", "--disablerepo=*", "repoquery", "--installed", "--qf", "%{name}\t%{epoch}\t%{version}\t%{release}\t%{arch}\t%{from_repo}")
	if err != nil {
		return nil, fmt.Errorf("ask dnf where packages came from: %w", err)
	}
	return dnfOrigin(out), nil
}

func dnfOrigin(out string) func(record.Package) string {
	origins := map[string]string{}
	for line := range strings.Lines(out) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if len(fields) == 6 {
			origins[strings.Join(fields[:5], "\t")] = repository(fields[5])
		}
	}
	return func(p record.Package) string {
		return origins[strings.Join([]string{p.Name, strconv.Itoa(p.Epoch), p.Version, p.Release, p.Arch}, "\t")]
	}
}

// yumOrigin knows no epochs: yum's directories have none, and no two installed
// packages differ by nothing else.
func yumOrigin(out string) func(record.Package) string {
	origins := map[string]string{}
	for line := range strings.Lines(out) {
		path, repo, found := strings.Cut(strings.TrimSpace(line), "\t")
		parts := strings.Split(path, "/")
		if !found || len(parts) != 3 {
			continue
		}
		_, nvra, _ := strings.Cut(parts[1], "-")
		origins[nvra] = repository(repo)
	}
	return func(p record.Package) string {
		return origins[p.Name+"-"+p.Version+"-"+p.Release+"-"+p.Arch]
	}
}

// repository leaves out what both managers write for packages that came from
// no repository: "@commandline", "@System", "installed", "/path/of.rpm".
func repository(id string) string {
	if strings.HasPrefix(id, "@") || strings.HasPrefix(id, "/") || id == "installed" || id == "<unknown>" {
		return ""
	}
	return id
}
