package acceptance

import (
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// TestStalls has one connection each stall for good, without being closed: the
// attempt is given up, and another succeeds. The builds only wait, so that they
// do so all at once.
func TestStalls(t *testing.T) {
	t.Parallel()
	var builds sync.WaitGroup
	defer builds.Wait()
	for _, rule := range sample([]string{
		"sts:GetCallerIdentity,kind=stall,nth=1",
		"ec2:DescribeImages,kind=stall,nth=2",
		"ebs:GetSnapshotBlock,kind=stall,nth=20",
		"ebs:GetSnapshotBlock,kind=stall,when=midway,nth=20",
		"ebs:PutSnapshotBlock,kind=stall,nth=3",
		"ebs:PutSnapshotBlock,kind=stall,when=after,nth=3",
		"ebs:CompleteSnapshot,kind=stall,when=after,nth=1",
		"ec2:RegisterImage,kind=stall,when=after,nth=1",
		"ec2:DescribeSnapshots,kind=stall,when=midway,nth=1",
	}, 2) {
		h := newTheatre(t, "--fault", rule)
		builds.Go(func() {
			kept := filepath.Join(h.Dir, "kept.raw")
			output, err := h.Packer(t.Context(), rehearsal.Packer{
				Dir: root, Env: h.box.Environ("AKIAOTHER"), EachLine: h.keepDisk(t, kept),
				Args: []string{"build", "-var", "name=stalled", templateFile(t, bakeNoise)},
			})
			if err != nil {
				t.Errorf("with the fault %s: %v\n%s", rule, err, output)
				return
			}
			h.checkDisk(t, amiIn(t, output), kept)
		})
	}
}

// TestNobodyAnswers addresses an endpoint where nobody listens, and one where
// nobody answers. The error says what can't be reached, and what to do.
func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := silent.Close(); err != nil {
			t.Error(err)
		}
	}()
	stage := newStage(t, t.TempDir())
	var builds sync.WaitGroup
	defer builds.Wait()
	for _, endpoint := range []string{"http://127.0.0.1:1", "http://" + silent.Addr().String()} {
		for _, access := range []string{"", "assume_role { role_arn = \"" + baker + "\" }"} {
			hcl := templateFile(t, longBake(access))
			builds.Go(func() {
				output, err := stage.Packer(t.Context(), rehearsal.Packer{
					Dir: root, Args: []string{"build", hcl},
					Env: []string{
						"AWS_ENDPOINT_URL=" + endpoint, "AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=AKIAX", "AWS_SECRET_ACCESS_KEY=x",
						"AWS_EC2_METADATA_DISABLED=true",
					},
				})
				if err == nil {
					t.Errorf("the build succeeded:\n%s", output)
				}
				says(t, output, []string{endpoint, `eu-west-1`, `AWS_ENDPOINT_URL`, `can't be reached`, `HTTPS_PROXY`})
			})
		}
	}
}
