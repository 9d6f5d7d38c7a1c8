package ec2

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// snapshot is a snapshot as EC2 sees it. Package storage keeps it, because EBS
// direct reads and writes it as well.
type snapshot struct{ *storage.Snapshot }

func (s snapshot) base() *resource {
	return &resource{Id: s.Id, Sequence: s.Started.UnixMilli(), Created: s.Started, Tags: s.Tags, VisibleAt: s.VisibleAt}
}

// newSnapshot makes a pending snapshot, which has yet to be added to the store.
func (r *region) newSnapshot(sizeGiB int) *storage.Snapshot {
	made := storage.NewSnapshot(r.now(), sizeGiB)
	made.VisibleAt = r.visibleAt
	return made
}

func (r *region) snapshots() map[string]snapshot {
	kept := r.service.store.In(r.name).Snapshots
	all := make(map[string]snapshot, len(kept))
	for id, s := range kept {
		all[id] = snapshot{s}
	}
	return all
}

// visibleSnapshot finds a snapshot that the caller may create volumes from.
func (r *region) visibleSnapshot(id string) (snapshot, error) {
	if err := wellFormed(id, "snap", "InvalidSnapshotID.Malformed"); err != nil {
		return snapshot{}, err
	}
	found := r.service.store.In(r.name).Snapshots[id]
	if found == nil || found.Unseen() || !found.MayCreateVolume(api.Account) {
		return snapshot{}, fail("InvalidSnapshot.NotFound", "The snapshot '%s' does not exist.", id)
	}
	return snapshot{found}, nil
}

// readySnapshot finds a snapshot that volumes can be created from now.
func (r *region) readySnapshot(id string) (snapshot, error) {
	found, err := r.visibleSnapshot(id)
	if err != nil {
		return snapshot{}, err
	}
	if found.State != storage.Completed {
		return snapshot{}, fail("IncorrectState", "The snapshot '%s' is not completed: it is %s", id, found.State)
	}
	return found, nil
}

// ownSnapshot finds a snapshot of the caller's.
func (r *region) ownSnapshot(id string) (snapshot, error) {
	found, err := r.visibleSnapshot(id)
	if err != nil {
		return snapshot{}, err
	}
	if found.OwnerId != api.Account {
		return snapshot{}, wire.Errorf("UnauthorizedOperation", "You are not authorized to perform this operation on snapshot '%s'.", id).With(http.StatusForbidden)
	}
	return found, nil
}

// removeSnapshot deletes a snapshot that nothing needs.
func (r *region) removeSnapshot(s snapshot) error {
	return r.service.store.Remove(r.name, s.Id)
}

// snapshotItem is a snapshot on the wire.
type snapshotItem struct {
	CompletionTime time.Time
	Description    string
	Encrypted      bool
	KmsKeyId       string
	OwnerAlias     string
	OwnerId        string
	Progress       string
	SnapshotId     string
	StartTime      time.Time
	State          string `wire:",status"`
	StateMessage   string `wire:",statusMessage"`
	StorageTier    string
	Tags           []tag `wire:",tagSet"`
	VolumeId       string
	VolumeSize     int
}

func (s snapshot) item() snapshotItem {
	it := snapshotItem{
		CompletionTime: s.Completed, Description: s.Description, Encrypted: s.Encrypted, KmsKeyId: s.KmsKeyId,
		OwnerAlias: alias(s.OwnerId), OwnerId: s.OwnerId, Progress: "0%", SnapshotId: s.Id, StartTime: s.Started,
		State: string(s.State), StateMessage: s.StateMessage, StorageTier: "standard", Tags: tags(s.Tags).wire(),
		VolumeId: s.VolumeId, VolumeSize: s.VolumeSize,
	}
	if s.State == storage.Completed {
		it.Progress = "100%"
	}
	return it
}

// snapshotItem is a snapshot as it is now: the progress of one of a volume goes
// with the time that it takes.
func (r *region) snapshotItem(s snapshot) snapshotItem {
	it := s.item()
	takes := r.service.clock.Transition(clock.Snapshot)
	if s.State == storage.Pending && s.VolumeId != "" && takes > 0 {
		it.Progress = fmt.Sprintf("%d%%", min(99, 100*r.now().Sub(s.Started)/takes))
	}
	return it
}

type describeSnapshotsInput struct {
	paging
	Filters             []filter `wire:"Filter"`
	OwnerIds            []string `wire:"Owner"`
	RestorableByUserIds []string `wire:"RestorableBy"`
	SnapshotIds         []string `wire:"SnapshotId"`
}

type describeSnapshotsOutput struct {
	NextToken string
	Snapshots []snapshotItem `wire:",snapshotSet"`
}

var snapshotFilters = filterable[snapshotItem]{
	values: map[string]func(snapshotItem) []string{
		"description":  func(s snapshotItem) []string { return one(s.Description) },
		"encrypted":    func(s snapshotItem) []string { return truth(s.Encrypted) },
		"owner-alias":  func(s snapshotItem) []string { return one(s.OwnerAlias) },
		"owner-id":     func(s snapshotItem) []string { return []string{s.OwnerId} },
		"progress":     func(s snapshotItem) []string { return []string{s.Progress} },
		"snapshot-id":  func(s snapshotItem) []string { return []string{s.SnapshotId} },
		"start-time":   func(s snapshotItem) []string { return []string{stamp(s.StartTime)} },
		"status":       func(s snapshotItem) []string { return []string{s.State} },
		"storage-tier": func(s snapshotItem) []string { return []string{s.StorageTier} },
		"volume-id":    func(s snapshotItem) []string { return []string{s.VolumeId} },
		"volume-size":  func(s snapshotItem) []string { return []string{fmt.Sprint(s.VolumeSize)} },
	},
	tags: func(s snapshotItem) tags { return tagMap(s.Tags) },
}

func (r *region) describeSnapshots(_ *api.Call, in *describeSnapshotsInput) (*describeSnapshotsOutput, error) {
	if err := in.noPageWith(in.SnapshotIds, "snapshotSet"); err != nil {
		return nil, err
	}
	for _, id := range in.SnapshotIds {
		if _, err := r.visibleSnapshot(id); err != nil {
			return nil, err
		}
	}
	owners, err := accounts(in.OwnerIds)
	if err != nil {
		return nil, err
	}
	if err := checkUsers(in.RestorableByUserIds); err != nil {
		return nil, err
	}
	candidates := slices.DeleteFunc(ordered(r.snapshots()), func(s snapshot) bool {
		return !s.MayCreateVolume(api.Account) ||
			len(owners) > 0 && !slices.Contains(owners, s.OwnerId) ||
			len(in.RestorableByUserIds) > 0 && !s.restorableBy(in.RestorableByUserIds)
	})
	found, next, err := describe(candidates, in.SnapshotIds, r.snapshotItem, snapshotFilters, in.Filters, in.paging, pageRange{5, 1000})
	return &describeSnapshotsOutput{next, found}, err
}

// restorableBy tells whether one of the users, account numbers, self, or all
// for everybody, was permitted to create volumes.
func (s snapshot) restorableBy(users []string) bool {
	return slices.ContainsFunc(users, func(user string) bool {
		if account, ok := aliases[user]; ok {
			user = account
		}
		return user == "all" && s.Public || user == s.OwnerId || slices.Contains(s.SharedTo, user)
	})
}

type snapshotIDInput struct {
	SnapshotId string `wire:",,required"`
}

func (r *region) deleteSnapshot(c *api.Call, in *snapshotIDInput) (*succeeded, error) {
	found, err := r.ownSnapshot(in.SnapshotId)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("snapshot", found.Id))
	if user := r.imageOf(found.Id); user != nil {
		return nil, fail("InvalidSnapshot.InUse", "The snapshot %s is currently in use by %s", found.Id, user.Id)
	}
	if err := r.removeSnapshot(found); err != nil {
		return nil, err
	}
	return &succeeded{true}, nil
}
