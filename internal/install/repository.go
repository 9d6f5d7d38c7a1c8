package install

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/guest"
)

// Repository is a repository for the machine's package manager, in the words
// of dnf.conf(5).
type Repository struct {
	ID       string
	Name     string
	BaseURL  []string
	Mirrors  string // mirrorlist
	GPGKey   []string
	GPGCheck bool
	Enabled  bool
	Priority int // 0 leaves it to the package manager
	Keep     bool
}

var repositoryID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]*$`)

func checkRepositories(all []Repository, signed bool) []error {
	var errs []error
	seen := map[string]bool{}
	for _, r := range all {
		if seen[r.ID] {
			errs = append(errs, fmt.Errorf("repositories: two have the id %q", r.ID))
		}
		seen[r.ID] = true
		errs = append(errs, r.check()...)
		if signed && !r.GPGCheck {
			errs = append(errs, fmt.Errorf("repositories: %q: gpgcheck is off and require_signature is on; remove gpgcheck = false and give its gpgkey, or set require_signature = false", r.ID))
		}
	}
	return errs
}

func (r Repository) check() []error {
	if !repositoryID.MatchString(r.ID) {
		return []error{fmt.Errorf("repositories: id is %q; use letters, digits and . _ : -", r.ID)}
	}
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("repositories: %q: %s", r.ID, fmt.Sprintf(format, args...)))
	}
	if (len(r.BaseURL) == 0) == (r.Mirrors == "") {
		bad("give either baseurl or mirrorlist")
	}
	for _, u := range append(append([]string{r.Mirrors}, r.BaseURL...), r.GPGKey...) {
		if u != "" && !isRepositoryURL(u) {
			bad("an address is not an https://, http:// or file:// URL as the machine sees it")
		}
	}
	if strings.ContainsAny(r.Name, "\r\n") {
		bad("name has more than one line")
	}
	if r.GPGCheck && len(r.GPGKey) == 0 {
		bad("gpgcheck is on and gpgkey is empty; give the URL of the key, or set gpgcheck = false")
	}
	if !r.GPGCheck && len(r.GPGKey) > 0 {
		bad("gpgcheck is off and gpgkey is given; remove one of them")
	}
	if r.Priority < 0 || r.Priority > 99 {
		bad("priority is %d; it can be 1 (the first choice) to 99", r.Priority)
	}
	if !r.Enabled && !r.Keep {
		bad("it is neither enabled nor kept, so it would do nothing; remove it")
	}
	return errs
}

// isRepositoryURL allows the package manager's variables, such as $releasever.
func isRepositoryURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || strings.ContainsAny(text, " \t\r\n") {
		return false
	}
	switch u.Scheme {
	case "http", "https":
		return u.Host != ""
	case "file":
		return strings.HasPrefix(u.Path, "/")
	}
	return false
}

// path is a name that is ours alone, so that no repository of the machine is
// overwritten, or removed afterwards.
func (r Repository) path() string { return "/etc/yum.repos.d/immutable-" + r.ID + ".repo" }

// mode hides addresses, which may have passwords in them, from the scriptlets
// that run as another user.
func (r Repository) mode() fs.FileMode {
	if r.Keep {
		return 0o644
	}
	return 0o600
}

// file is the repository as the package manager reads it. One that can't be
// reached is an error rather than skipped.
func (r Repository) file() string {
	lines := []string{"[" + r.ID + "]"}
	set := func(key, value string) {
		if value != "" {
			lines = append(lines, key+"="+value)
		}
	}
	onOff := map[bool]string{true: "1", false: "0"}
	set("name", cmp.Or(r.Name, r.ID))
	set("baseurl", strings.Join(r.BaseURL, "\n    "))
	set("mirrorlist", r.Mirrors)
	set("enabled", onOff[r.Enabled])
	set("gpgcheck", onOff[r.GPGCheck])
	set("gpgkey", strings.Join(r.GPGKey, "\n    "))
	if r.Priority != 0 {
		set("priority", strconv.Itoa(r.Priority))
	}
	set("skip_if_unavailable", "0")
	return strings.Join(lines, "\n") + "\n"
}

func (r Repository) put(ctx context.Context, m guest.Machine) error {
	if err := m.Upload(ctx, r.path(), strings.NewReader(r.file()), r.mode()); err != nil {
		return fmt.Errorf("write the repository %s: %w", r.ID, err)
	}
	return nil
}

func (r Repository) remove(ctx context.Context, m guest.Machine) error {
	_, err := guest.Output(ctx, m, "rm", "-f", "--", r.path())
	return err
}
