package ec2

import (
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
)

// How many snapshots a region may have, and how many of them may be in the
// making (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html,
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/CopyingAMIs.html).
const (
	maxSnapshots        = 100000
	maxPendingSnapshots = 100
	maxSnapshotCopies   = 20 // by CopySnapshot
	maxImageCopies      = 300
)

// roomForSnapshots tells whether there may be n more snapshots.
func (r *region) roomForSnapshots(n int) error {
	all, pending := 0, 0
	for _, s := range r.service.store.In(r.name).Snapshots {
		if s.OwnerId != api.Account {
			continue
		}
		all++
		if s.State == storage.Pending {
			pending++
		}
	}
	switch {
	case all+n > maxSnapshots:
		return fail("SnapshotLimitExceeded", "Snapshot limit exceeded: there can be at most %d snapshots.", maxSnapshots)
	case pending+n > maxPendingSnapshots:
		return fail("PendingSnapshotLimitExceeded", "Pending snapshot limit exceeded: at most %d snapshots can be pending.", maxPendingSnapshots)
	}
	return nil
}

// roomForSnapshotCopy tells whether there may be another copy in progress. The
// error is that of https://github.com/aws-samples/copy-encrypted-ami/issues/3.
func (r *region) roomForSnapshotCopy() error {
	images := map[string]bool{} // snapshots that CopyImage makes
	for _, i := range r.Images {
		for _, id := range i.snapshots() {
			images[id] = i.isCopy()
		}
	}
	copies := 0
	for id, s := range r.service.store.In(r.name).Snapshots {
		if s.State == storage.Pending && s.Write == nil && s.VolumeId == storage.VolumeNone && !images[id] {
			copies++
		}
	}
	if copies >= maxSnapshotCopies {
		return fail("ResourceLimitExceeded", "Too many snapshot copies in progress. The limit is %d for this destination region.", maxSnapshotCopies)
	}
	return nil
}

// roomForImageCopy tells whether there may be another copy in progress.
func (r *region) roomForImageCopy() error {
	copies := 0
	for _, i := range r.Images {
		if i.State == imagePending && i.isCopy() {
			copies++
		}
	}
	if copies >= maxImageCopies {
		return fail("ResourceLimitExceeded", "Too many AMI copies in progress. The limit is %d for this destination region.", maxImageCopies)
	}
	return nil
}

// isCopy tells whether CopyImage made the image.
func (i *image) isCopy() bool { return i.SourceImage != "" && i.SourceInstance == "" }
