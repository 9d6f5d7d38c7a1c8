package rpmtest

import (
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// WriteRepository makes package files and, beside them, the metadata that
// makes a repository of the directory.
func WriteRepository(t testing.TB, dir string, packages ...Package) {
	t.Helper()
	var primary strings.Builder
	fmt.Fprintf(&primary, `<?xml version="1.0" encoding="UTF-8"?>
<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="%d">
`, len(packages))
	for _, p := range packages {
		path := Write(t, dir, p)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		info := p.info(t)
		fmt.Fprintf(&primary, `<package type="rpm"><name>%s</name><arch>%s</arch><version epoch="%d" ver="%s" rel="%s"/>
<checksum type="sha256" pkgid="YES">%x</checksum><summary/><description/><packager/><url/><time file="1" build="1"/>
<size package="%d" installed="1" archive="1"/><location href="%s"/><format><rpm:license>x</rpm:license>
<rpm:provides><rpm:entry name="%s" flags="EQ" epoch="%d" ver="%s" rel="%s"/>%s</rpm:provides><rpm:requires>%s</rpm:requires></format></package>
`, p.Name, info.Arch, p.Epoch, info.Version, info.Release, sha256.Sum256(content), len(content), filepath.Base(path),
			p.Name, p.Epoch, info.Version, info.Release, entries(t, p.Provides), entries(t, p.Requires))
	}
	primary.WriteString("</metadata>\n")

	metadata := filepath.Join(dir, "repodata")
	if err := os.Mkdir(metadata, 0o755); err != nil {
		t.Fatal(err)
	}
	index := fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>1</revision><data type="primary">
<checksum type="sha256">%x</checksum><location href="repodata/primary.xml"/><timestamp>1</timestamp><size>%d</size>
</data></repomd>
`, sha256.Sum256([]byte(primary.String())), primary.Len())
	for name, text := range map[string]string{"primary.xml": primary.String(), "repomd.xml": index} {
		if err := os.WriteFile(filepath.Join(metadata, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func entries(t testing.TB, names []string) string {
	t.Helper()
	var all strings.Builder
	for _, name := range names {
		all.WriteString(`<rpm:entry name="`)
		if err := xml.EscapeText(&all, []byte(name)); err != nil {
			t.Fatal(err)
		}
		all.WriteString(`"/>`)
	}
	return all.String()
}
