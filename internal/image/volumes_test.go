package image

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

// twoVolumes is an AMI whose second volume is made from the snapshot snap-2.
func twoVolumes(tags map[string]string) *types.Image {
	return &types.Image{
		ImageId: new("ami-1"), Name: new("two"), Tags: tagList(tags), RootDeviceName: new("/dev/xvda"),
		BlockDeviceMappings: []types.BlockDeviceMapping{
			{DeviceName: new("/dev/sdb"), Ebs: &types.EbsBlockDevice{SnapshotId: new("snap-2")}},
			{DeviceName: new("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: new("snap-1")}},
		},
	}
}

func TestTheSnapshotsOfTheBaseAreLeftAlone(t *testing.T) {
	for name, test := range map[string]struct {
		tags map[string]string
		own  []string
	}{
		"baked here":               {map[string]string{cloud.TagRun: "1"}, []string{"snap-1"}},
		"a copy of a base":         {map[string]string{cloud.TagRun: "1", TagCopyOf: "ami-0"}, []string{"snap-1", "snap-2"}},
		"made by another's plugin": {nil, []string{"snap-1", "snap-2"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &annotated{of: twoVolumes(nil), image: map[string]string{}}
				for key, value := range test.tags {
					a.image[key] = value
				}
				if _, _, err := Annotate(t.Context(), a, "ami-1", map[string]string{"Name": "two"}); err != nil {
					t.Fatal(err)
				}
				slices.Sort(a.resources)
				if diff := cmp.Diff(append([]string{"ami-1"}, test.own...), a.resources); diff != "" {
					t.Errorf("resources tagged:\n%s", diff)
				}

				f := newFake()
				f.images["ami-1"] = twoVolumes(test.tags)
				f.snapshots["snap-1"], f.snapshots["snap-2"] = types.Snapshot{}, types.Snapshot{}
				if err := Delete(t.Context(), f, "ami-1"); err != nil {
					t.Fatal(err)
				}
				for _, id := range []string{"snap-1", "snap-2"} {
					if _, left := f.snapshots[id]; left == slices.Contains(test.own, id) {
						t.Errorf("%s is left: %t", id, left)
					}
				}
			})
		})
	}
}
