package storage

import (
	"slices"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/block"
)

// State is the state of a snapshot.
type State string

// The states of a snapshot.
const (
	Pending   State = "pending"
	Completed State = "completed"
	Failed    State = "error"
)

// Snapshot is an EBS snapshot. Its fields are changed with the books held.
type Snapshot struct {
	Id           string
	OwnerId      string
	Description  string
	State        State
	StateMessage string // why it has failed
	Started      time.Time
	Completed    time.Time // zero until it is
	VolumeId     string    // of which it was made; VolumeNone for one that was written or copied
	VolumeSize   int       // GiB
	Encrypted    bool
	KmsKeyId     string // ARN, when encrypted
	Tags         map[string]string

	Public   bool     // everybody may create volumes from it
	SharedTo []string // accounts that may

	// Lineage is the same for snapshots that have their blocks in common by
	// descent: those of one volume, those written on top of a parent.
	Lineage string

	// Noise makes blocks that were never written read as random data. An
	// encrypted snapshot that was written block by block has it: what no block
	// was written for decrypts to anything
	// (https://github.com/awslabs/coldsnap/issues/395).
	Noise bool

	// Doom is why a pending snapshot will fail when its time has come; "" if it
	// will not.
	Doom string `json:",omitempty"`

	// VisibleAt is when callers see the snapshot; zero if at once.
	VisibleAt time.Time `json:",omitzero"`

	// Write is set on a snapshot that is, or was, written block by block.
	Write *Write `json:",omitempty"`

	blocks *Blocks
}

// VolumeNone is what AWS shows as the volume of a snapshot that was made of
// none.
const VolumeNone = "vol-ffffffff"

// Write is what EBS direct keeps of a snapshot that it started.
type Write struct {
	ParentId   string `json:",omitempty"`
	Token      string `json:",omitempty"` // client token
	Parameters string // digest of the parameters of the start
	Timeout    time.Duration
	LastUsed   time.Time
	Sealed     bool // no more blocks are taken

	written map[int]bool // blocks written into this snapshot, not inherited
}

// Written lists the blocks that were written into the snapshot itself, in
// order.
func (s *Snapshot) Written() []int { return sortedKeys(s.Write.written) }

// Put makes the block of the digest, which was stored before, the one at index.
func (s *Snapshot) Put(index int, digest block.Digest) {
	s.blocks.Set(index, digest)
	s.Write.written[index] = true
}

// At gives the digest of the block at index; false if it was never written.
func (s *Snapshot) At(index int) (block.Digest, bool) { return s.blocks.At(index) }

// Indexes lists the blocks that the snapshot has, its parent's among them, in
// order.
func (s *Snapshot) Indexes() []int { return s.blocks.Indexes() }

// Blocks are the snapshot's contents, as a copy that the caller must Release or
// hand over.
func (s *Snapshot) Blocks() *Blocks {
	blocks := s.blocks.Clone()
	if s.Noise && blocks.noise == "" {
		blocks.noise = s.Id
	}
	return blocks
}

// Unseen tells whether callers do not see the snapshot yet.
func (s *Snapshot) Unseen() bool { return time.Now().Before(s.VisibleAt) }

// MayCreateVolume tells whether an account may create volumes from the
// snapshot, and copy it.
func (s *Snapshot) MayCreateVolume(account string) bool {
	return s.Public || s.OwnerId == account || slices.Contains(s.SharedTo, account)
}

// ARN is how IAM names the snapshot in a region. It has no account.
func (s *Snapshot) ARN(region string) string { return SnapshotARN(region, s.Id) }

// SnapshotARN is how IAM names a snapshot; "*" stands for any.
func SnapshotARN(region, id string) string {
	return "arn:aws:ec2:" + region + "::snapshot/" + id
}

// NewSnapshot makes a pending snapshot of the calling account, in a lineage of
// its own.
func NewSnapshot(now time.Time, sizeGiB int) *Snapshot {
	return &Snapshot{
		Id: api.NewID("snap"), OwnerId: api.Account, State: Pending, Started: now,
		VolumeId: VolumeNone, VolumeSize: sizeGiB, Lineage: api.NewUUID(), Tags: map[string]string{},
	}
}
