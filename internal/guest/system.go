package guest

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Manager is the machine's package manager.
type Manager string

// The package managers of Amazon Linux 2023 and of Amazon Linux 2.
const (
	DNF Manager = "dnf"
	Yum Manager = "yum"
)

// System is what a machine is, as far as a bake asks.
type System struct {
	ID        string // "amzn"
	VersionID string // "2023"
	Name      string // "Amazon Linux 2023.6.20250107"
	Arch      string // "x86_64" or "aarch64", as rpm writes them
	Manager   Manager
	// Booted tells that systemd runs there, so that units can be started. It
	// does not in a chroot.
	Booted bool
}

// survey prints one fact a line. yum is asked for last, for on systems with
// dnf it is another name of it.
const survey = `
if [ -r /etc/os-release ]; then cat /etc/os-release; fi
echo "_ARCH=$(uname -m)"
if command -v dnf >/dev/null; then echo _MANAGER=dnf
elif command -v yum >/dev/null; then echo _MANAGER=yum
fi
if [ -d /run/systemd/system ]; then echo _BOOTED=1; fi
`

// Survey finds out what a machine is. A machine without a package manager is
// an error.
func Survey(ctx context.Context, m Machine) (System, error) {
	out, err := Script(ctx, m, survey)
	if err != nil {
		return System{}, fmt.Errorf("find out which system the machine is: %w", err)
	}
	facts := assignments(out)
	s := System{
		ID:        facts["ID"],
		VersionID: facts["VERSION_ID"],
		Name:      facts["PRETTY_NAME"],
		Arch:      facts["_ARCH"],
		Manager:   Manager(facts["_MANAGER"]),
		Booted:    facts["_BOOTED"] != "",
	}
	if s.Manager == "" {
		return System{}, errors.New("the machine has neither dnf nor yum; bake an Amazon Linux 2023 or Amazon Linux 2 base")
	}
	return s, nil
}

// assignments reads the shell assignments of os-release(5).
func assignments(text string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, found := strings.Cut(strings.TrimSpace(line), "=")
		if !found || strings.HasPrefix(name, "#") {
			continue
		}
		values[name] = unquote(value)
	}
	return values
}

// unquote undoes the quoting that os-release(5) allows: one pair of quotes
// around the whole, and backslashes within double ones.
func unquote(value string) string {
	if len(value) < 2 || value[0] != value[len(value)-1] || (value[0] != '"' && value[0] != '\'') {
		return value
	}
	inner := value[1 : len(value)-1]
	if value[0] == '"' {
		inner = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\$`, `$`, "\\`", "`").Replace(inner)
	}
	return inner
}
