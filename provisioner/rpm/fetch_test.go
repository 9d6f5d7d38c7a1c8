package rpm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/immutable-server/packer-plugin-immutable/internal/acceptance/bakery"
	"github.com/immutable-server/packer-plugin-immutable/internal/bake"
	"github.com/immutable-server/packer-plugin-immutable/internal/record"
	"github.com/immutable-server/packer-plugin-immutable/internal/rpm/rpmtest"
)

func digest(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// serveObjects is as much of STS and S3 as an object is fetched with.
func serveObjects(t *testing.T, objects string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost:
			io.WriteString(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/x</Arn><UserId>x</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`)
		case r.URL.Query().Get("X-Amz-Signature") == "":
			http.Error(w, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>", http.StatusForbidden)
		default:
			http.StripPrefix("/bucket", http.FileServer(http.Dir(objects))).ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	t.Setenv("AWS_ENDPOINT_URL", server.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
}

func TestObjectsAreFetchedHereAndInstalledThere(t *testing.T) {
	bucket := t.TempDir()
	file := rpmtest.Write(t, bucket, rpmtest.Package{Name: "app", Arch: arch()})
	serveObjects(t, bucket)
	address := "s3://bucket/" + filepath.Base(file)
	bakery.Bake(t, bakery.Disk(t), bake.Chroot, func(ctx context.Context, m *bakery.Machine) {
		mustProvision(ctx, t, m, options{"packages": []string{address}, "region": "eu-west-1", "checksums": map[string]string{address: digest(t, file)}})
		r, err := record.Unmarshal([]byte(m.Sh("cat " + record.Path)))
		if err != nil || len(r.Packages) != 1 || r.Packages[0].Source != address || r.Packages[0].Digest != digest(t, file) {
			t.Errorf("recorded: %+v, %v", r, err)
		}

		_, err = provision(ctx, t, m, options{"packages": []string{"s3://bucket/missing.rpm"}, "region": "eu-west-1"})
		wantError(t, err, "s3://bucket/missing.rpm", "404")
		if strings.Contains(err.Error(), "X-Amz-") {
			t.Errorf("the error has the signed address: %v", err)
		}
	})
}
