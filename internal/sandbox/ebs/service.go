// Package ebs is the sandbox's EBS direct: snapshots are started, written,
// completed, listed and read block by block. The rules are those of
// https://docs.aws.amazon.com/ebs/latest/userguide/ebs-accessing-snapshot.html
// and of the API's model.
package ebs

import (
	"crypto/rand"
	"regexp"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/block"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/state"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// Account is what EBS asks of EC2.
type Account interface {
	// EncryptionByDefault tells whether the account has encryption by default
	// in a region, and gives the ARN of its default key in any case. The books
	// are held.
	EncryptionByDefault(region string) (enabled bool, kmsKeyArn string)

	// KeyAccessible tells whether the account can use a KMS key in a region. The
	// books are held.
	KeyAccessible(region, kmsKeyArn string) bool
}

// snapshotID is what the id of a snapshot looks like, as the API's model has it.
var snapshotID = regexp.MustCompile(`^snap-[0-9a-f]{1,59}$`)

// Service is EBS direct.
type Service struct {
	clock   *clock.Clock
	books   *state.Books
	store   *storage.Store
	account Account
	tokens  *state.Ledger[tokenKey]
}

// New makes the service, and takes up the snapshots that were being written
// when the sandbox ended.
func New(books *state.Books, clock *clock.Clock, store *storage.Store, account Account) (*Service, error) {
	tokens, err := state.Declare(books, "ebs-tokens", func(string) *tokenKey {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		return &tokenKey{Secret: key}
	})
	if err != nil {
		return nil, err
	}
	s := &Service{clock: clock, books: books, store: store, account: account, tokens: tokens}
	books.Do(s.resume)
	return s, nil
}

// API gives the service's operations.
func (s *Service) API() *api.Service {
	r := api.NewService("ebs", wire.RESTJSON(map[string]string{
		"StartSnapshot":      "POST /snapshots",
		"PutSnapshotBlock":   "PUT /snapshots/{SnapshotId}/blocks/{BlockIndex}",
		"CompleteSnapshot":   "POST /snapshots/completion/{SnapshotId}",
		"ListSnapshotBlocks": "GET /snapshots/{SnapshotId}/blocks",
		"ListChangedBlocks":  "GET /snapshots/{SecondSnapshotId}/changedblocks",
		"GetSnapshotBlock":   "GET /snapshots/{SnapshotId}/blocks/{BlockIndex}",
	}))
	api.Register(r, "StartSnapshot", s.startSnapshot)
	api.Register(r, "PutSnapshotBlock", s.putSnapshotBlock)
	api.Register(r, "CompleteSnapshot", s.completeSnapshot)
	api.Register(r, "ListSnapshotBlocks", s.listSnapshotBlocks)
	api.Register(r, "ListChangedBlocks", s.listChangedBlocks)
	api.Register(r, "GetSnapshotBlock", s.getSnapshotBlock)
	return r
}

// resume takes up what was going on when the sandbox ended.
func (s *Service) resume() {
	for _, region := range s.store.Regions() {
		for _, snapshot := range s.store.In(region).Snapshots {
			switch {
			case snapshot.State != storage.Pending || snapshot.Write == nil:
			case snapshot.Write.Sealed:
				s.completeLater(region, snapshot)
			default:
				s.watch(region, snapshot)
			}
		}
	}
}

// own finds a snapshot of the caller's. One that was just started may not be
// seen for up to two minutes (https://github.com/awslabs/coldsnap/issues/43).
func (s *Service) own(c *api.Call, id string) (*storage.Snapshot, error) {
	if !snapshotID.MatchString(id) {
		return nil, invalid(invalidSnapshot, "'%s' is not the ID of a snapshot", id)
	}
	c.On(storage.SnapshotARN(c.Region, id))
	snapshot, ok := s.store.In(c.Region).Snapshots[id]
	switch {
	case !ok, snapshot.Unseen():
		return nil, errNoSnapshot(id)
	case snapshot.OwnerId != c.Account:
		return nil, errOtherAccount(id)
	}
	return snapshot, nil
}

// readable finds a snapshot that can be read, or be a parent: "EBS direct
// APIs does not support public snapshots", nor ones that are not completed.
func (s *Service) readable(c *api.Call, id string) (*storage.Snapshot, error) {
	snapshot, err := s.own(c, id)
	switch {
	case err != nil:
		return nil, err
	case snapshot.Public:
		return nil, invalid(invalidSnapshot, "The snapshot '%s' is public, which EBS direct APIs do not support; copy it first", id)
	case snapshot.State != storage.Completed:
		return nil, invalid(invalidSnapshot, "The snapshot '%s' is %s, not completed", id, snapshot.State)
	case snapshot.Encrypted && !s.account.KeyAccessible(c.Region, snapshot.KmsKeyId):
		return nil, errNoKey(id, snapshot.KmsKeyId)
	}
	return snapshot, nil
}

// pending finds a snapshot that takes blocks, in which the block at index lies.
func (s *Service) pending(c *api.Call, id string) (*storage.Snapshot, error) {
	snapshot, err := s.own(c, id)
	switch {
	case err != nil:
		return nil, err
	case snapshot.Write == nil:
		return nil, invalid(invalidSnapshot, "The snapshot '%s' was not started by StartSnapshot", id)
	case snapshot.State != storage.Pending, snapshot.Write.Sealed:
		return nil, invalid(invalidSnapshot, "The snapshot '%s' takes no blocks any more: it is completing, %s or failed", id, snapshot.State)
	}
	return snapshot, nil
}

// noteKey notes what the caller must be permitted on a key. Of AWS's own key of
// EBS it is nothing, because its key policy permits everybody in the account to
// use it (https://docs.aws.amazon.com/ebs/latest/userguide/ebsapi-permissions.html).
func (s *Service) noteKey(c *api.Call, key string, actions ...string) {
	if _, own := s.account.EncryptionByDefault(c.Region); key == own {
		return
	}
	for _, action := range actions {
		c.Needs("kms:"+action, key)
	}
}

// blocksOf is how many blocks a volume of so many GiB has.
func blocksOf(sizeGiB int) int { return sizeGiB * (1 << 30 / block.Size) }

func checkIndex(snapshot *storage.Snapshot, index int) error {
	if index < 0 || index >= blocksOf(snapshot.VolumeSize) {
		return invalid(invalidBlock, "The block index %d is outside of the snapshot's %d GiB", index, snapshot.VolumeSize)
	}
	return nil
}
