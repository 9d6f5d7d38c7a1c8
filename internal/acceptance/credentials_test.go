package acceptance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

const baker = "arn:aws:iam::123456789012:role/baker"

// longBake outlasts credentials of three seconds.
func longBake(access string) string {
	return fmt.Sprintf(`
source "immutable-direct" "x" {
  ami_name = "long-${uuidv4()}"
  %s
}
build {
  sources = ["source.immutable-direct.x"]
  provisioner "shell" { inline = ["head -c 3M /dev/urandom > /root/noise; sleep 4"] }
}
`, access)
}

// assume gives credentials of a role for the least time that there is.
func (h *theatre) assume(t *testing.T) (ststypes.Credentials, error) {
	out, err := sts.NewFromConfig(h.box.Config()).AssumeRole(t.Context(), &sts.AssumeRoleInput{
		RoleArn: aws.String(baker), RoleSessionName: aws.String("test"), DurationSeconds: aws.Int32(900),
	})
	if err != nil {
		return ststypes.Credentials{}, err
	}
	return *out.Credentials, nil
}

// TestCredentialsThatExpire builds for longer than its credentials are valid.
func TestCredentialsThatExpire(t *testing.T) {
	t.Parallel()
	// A quarter of an hour, the least that AWS gives, lasts 2.7 seconds.
	h := newTheatre(t, "--time-scale", "0.003")
	// This is how a container gets those of its role.
	container := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		made, err := h.assume(t)
		if err != nil {
			t.Error(err)
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"AccessKeyId": made.AccessKeyId, "SecretAccessKey": made.SecretAccessKey, "Token": made.SessionToken,
			"Expiration": made.Expiration.UTC().Format(time.RFC3339),
		})
	}))
	defer container.Close()

	for name, c := range map[string]struct {
		access string
		env    []string
	}{
		"of assume_role": {fmt.Sprintf("assume_role {\n role_arn = %q\n duration_seconds = 900\n }", baker), nil},
		"of a container": {"", []string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_CONTAINER_CREDENTIALS_FULL_URI=" + container.URL}},
	} {
		t.Run(name+" are renewed", func(t *testing.T) {
			before := len(h.calls(t))
			kept := filepath.Join(t.TempDir(), "kept.raw")
			output, err := h.Packer(t.Context(), rehearsal.Packer{
				Dir: root, Env: append(h.box.Environ("AKIACALLER"), c.env...),
				Args: []string{"build", templateFile(t, longBake(c.access))}, EachLine: h.keepDisk(t, kept),
			})
			if err != nil {
				t.Fatalf("%v\n%s", err, output)
			}
			h.checkDisk(t, amiIn(t, output), kept)
			keys := map[string]bool{}
			for _, call := range h.calls(t)[before:] {
				if strings.Contains(call.Error, "Expired") {
					t.Errorf("%s was called with credentials that had expired", call.Operation)
				}
				if strings.HasPrefix(call.Principal, "ASIA") {
					keys[call.Principal] = true
				}
			}
			if len(keys) < 2 {
				t.Errorf("the build called with the keys %v, want more than one", keys)
			}
		})
	}

	t.Run("for good end the build", func(t *testing.T) {
		before := h.marks(t)
		made, err := h.assume(t)
		if err != nil {
			t.Fatal(err)
		}
		output, err := h.Packer(t.Context(), rehearsal.Packer{
			Dir: root, Args: []string{"build", templateFile(t, longBake(""))},
			Env: append(h.box.Environ(*made.AccessKeyId), "AWS_SESSION_TOKEN="+*made.SessionToken),
		})
		if err == nil {
			t.Fatalf("the build succeeded:\n%s", output)
		}
		says(t, output, []string{`Expired`, `ebs:StartSnapshot`})
		if left := h.newMarks(t, before); len(left) > 0 {
			t.Errorf("there is left: %v", left)
		}
		nothingLeft(t, h.Stage, output)
	})
}

// calls are those of the sandbox's log.
func (h *theatre) calls(t *testing.T) []call {
	t.Helper()
	path := filepath.Join(h.Dir, "calls.jsonl")
	if _, err := os.Stat(path); err != nil {
		return nil
	}
	return readCalls(t, path)
}
