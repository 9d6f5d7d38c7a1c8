package ebs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/block"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/storage"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// Limits of StartSnapshot, from the API's model,
// https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html and
// https://docs.aws.amazon.com/ebs/latest/userguide/ebs-direct-api-idempotency.html.
const (
	maxVolumeSize  = 65536 // GiB
	maxDescription = 255
	maxToken       = 64 // as the guide says; the model allows 255
	maxTags        = 50
	maxTagKey      = 127 // less than EC2's
	maxTagValue    = 255
	maxPending     = 100 // snapshots of an account
	maxSnapshots   = 100000
	minTimeout     = 10 // minutes
	maxTimeout     = 4320
	defaultTimeout = 60
)

var (
	kmsKeyArn   = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[^:]*:[0-9]{12}:key/.+$`)
	clientToken = regexp.MustCompile(`^[!-~]*$`)
)

type tag struct {
	Key   string `wire:",,required"`
	Value string
}

type startSnapshotInput struct {
	VolumeSize       int `wire:",,required"` // GiB
	ParentSnapshotId string
	Tags             []tag
	Description      string
	ClientToken      string
	Encrypted        *bool
	KmsKeyArn        string
	Timeout          *int // minutes
}

type startSnapshotOutput struct {
	HTTPStatus       int `status:""`
	SnapshotId       string
	Description      string
	OwnerId          string
	Status           string
	StartTime        time.Time
	VolumeSize       int
	BlockSize        int
	Tags             []tag
	ParentSnapshotId string
	KmsKeyArn        string
}

func (s *Service) startSnapshot(_ context.Context, c *api.Call, in *startSnapshotInput) (*startSnapshotOutput, error) {
	c.On(storage.SnapshotARN(c.Region, "*"))
	if len(in.Tags) > 0 {
		c.Needs("ec2:CreateTags", storage.SnapshotARN(c.Region, "*"))
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	parameters, err := in.digest()
	if err != nil {
		return nil, err
	}
	if before := s.startedWith(c.Region, in.ClientToken); before != nil {
		if before.Write.Parameters != parameters {
			return nil, wire.Errorf("ConflictException", "The client token '%s' was used before with other parameters", in.ClientToken).With(http.StatusConflict)
		}
		return in.answer(before), nil
	}
	if s.countPending(c.Region) >= maxPending {
		return nil, wire.Errorf("ConcurrentLimitExceededException", "You have reached the limit of %d pending snapshots", maxPending)
	}
	if len(s.store.In(c.Region).Snapshots) >= maxSnapshots {
		return nil, wire.Errorf("ServiceQuotaExceededException", "You have reached the limit of %d snapshots", maxSnapshots).
			With(http.StatusPaymentRequired).Because("DEPENDENCY_SERVICE_QUOTA_EXCEEDED")
	}
	snapshot, blocks, err := s.newSnapshot(c, in)
	if err != nil {
		return nil, err
	}
	snapshot.Write.Parameters = parameters
	s.store.Add(c.Region, snapshot, blocks)
	s.watch(c.Region, snapshot)
	return in.answer(snapshot), nil
}

func (in *startSnapshotInput) check() error {
	switch {
	case in.VolumeSize < 1 || in.VolumeSize > maxVolumeSize:
		return invalid(invalidSize, "VolumeSize must be from 1 to %d GiB, not %d", maxVolumeSize, in.VolumeSize)
	case in.ParentSnapshotId != "" && (in.Encrypted != nil || in.KmsKeyArn != ""):
		return invalid(invalidParameter, "Encrypted and KmsKeyArn can't be given together with ParentSnapshotId: the parent decides")
	case in.KmsKeyArn != "" && in.Encrypted != nil && !*in.Encrypted:
		return invalid(invalidParameter, "KmsKeyArn can't be given when Encrypted is false")
	case in.KmsKeyArn != "" && !kmsKeyArn.MatchString(in.KmsKeyArn):
		return invalid(invalidParameter, "KmsKeyArn must be the ARN of a KMS key")
	case in.Timeout != nil && (*in.Timeout < minTimeout || *in.Timeout > maxTimeout):
		return invalid(invalidParameter, "Timeout must be from %d to %d minutes, not %d", minTimeout, maxTimeout, *in.Timeout)
	case utf8.RuneCountInString(in.Description) > maxDescription:
		return invalid(invalidParameter, "Description may have at most %d characters", maxDescription)
	case len(in.ClientToken) > maxToken || !clientToken.MatchString(in.ClientToken):
		return invalid(invalidParameter, "ClientToken may have at most %d ASCII characters and no spaces", maxToken)
	}
	return checkTags(in.Tags)
}

// checkTags applies the restrictions of
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions.
func checkTags(tags []tag) error {
	if len(tags) > maxTags {
		return invalid(invalidTag, "A snapshot may have at most %d tags", maxTags)
	}
	seen := map[string]bool{}
	for _, t := range tags {
		switch {
		case t.Key == "" || utf8.RuneCountInString(t.Key) > maxTagKey:
			return invalid(invalidTag, "The tag key '%s' must have from 1 to %d characters", t.Key, maxTagKey)
		case strings.HasPrefix(strings.ToLower(t.Key), "aws:"):
			return invalid(invalidTag, "The tag key '%s' begins with aws:, which is reserved", t.Key)
		case utf8.RuneCountInString(t.Value) > maxTagValue:
			return invalid(invalidTag, "The value of the tag '%s' may have at most %d characters", t.Key, maxTagValue)
		case seen[t.Key]:
			return invalid(invalidTag, "The tag key '%s' is given twice", t.Key)
		}
		seen[t.Key] = true
	}
	return nil
}

// digest tells requests with other parameters apart.
func (in *startSnapshotInput) digest() (string, error) {
	parameters, err := json.Marshal(in)
	if err != nil {
		return "", fmt.Errorf("remember the parameters of StartSnapshot: %w", err)
	}
	sum := sha256.Sum256(parameters)
	return hex.EncodeToString(sum[:]), nil
}

func (in *startSnapshotInput) answer(snapshot *storage.Snapshot) *startSnapshotOutput {
	return &startSnapshotOutput{
		HTTPStatus: http.StatusCreated, SnapshotId: snapshot.Id, Description: snapshot.Description, OwnerId: snapshot.OwnerId,
		Status: string(snapshot.State), StartTime: snapshot.Started, VolumeSize: snapshot.VolumeSize, BlockSize: block.Size,
		Tags: in.Tags, ParentSnapshotId: in.ParentSnapshotId, KmsKeyArn: snapshot.KmsKeyId,
	}
}

// startedWith finds the snapshot that was started with a client token.
func (s *Service) startedWith(region, token string) *storage.Snapshot {
	if token == "" {
		return nil
	}
	for _, snapshot := range s.store.In(region).Snapshots {
		if snapshot.Write != nil && snapshot.Write.Token == token {
			return snapshot
		}
	}
	return nil
}

func (s *Service) countPending(region string) (n int) {
	for _, snapshot := range s.store.In(region).Snapshots {
		if snapshot.State == storage.Pending && snapshot.OwnerId == api.Account {
			n++
		}
	}
	return n
}

// newSnapshot makes the snapshot that a request describes, and the blocks that
// it begins with.
func (s *Service) newSnapshot(c *api.Call, in *startSnapshotInput) (*storage.Snapshot, *storage.Blocks, error) {
	timeout := defaultTimeout
	if in.Timeout != nil {
		timeout = *in.Timeout
	}
	snapshot := storage.NewSnapshot(c.Now, in.VolumeSize)
	snapshot.Description, snapshot.VisibleAt = in.Description, c.VisibleAt()
	snapshot.Write = &storage.Write{
		ParentId: in.ParentSnapshotId, Token: in.ClientToken,
		Timeout: time.Duration(timeout) * time.Minute, LastUsed: c.Now,
	}
	for _, t := range in.Tags {
		snapshot.Tags[t.Key] = t.Value
	}
	if in.ParentSnapshotId == "" {
		return snapshot, nil, s.encrypt(c, snapshot, in)
	}
	blocks, err := s.inherit(c, snapshot, in.ParentSnapshotId)
	return snapshot, blocks, err
}

// encrypt decides on the encryption of a snapshot without a parent
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebsapis-using-encryption.html).
func (s *Service) encrypt(c *api.Call, snapshot *storage.Snapshot, in *startSnapshotInput) error {
	byDefault, key := s.account.EncryptionByDefault(c.Region)
	wanted := in.Encrypted != nil && *in.Encrypted
	switch {
	case in.Encrypted != nil && !wanted && byDefault:
		return invalid(invalidParameter, "Encrypted can't be false: the account has encryption by default")
	case !wanted && !byDefault && in.KmsKeyArn != "":
		return invalid(invalidParameter, "KmsKeyArn needs Encrypted to be true: the account has no encryption by default")
	case !wanted && !byDefault:
		return nil
	}
	if in.KmsKeyArn != "" {
		key = in.KmsKeyArn
	}
	s.noteKey(c, key, "CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKeyWithoutPlaintext")
	if !s.account.KeyAccessible(c.Region, key) {
		return invalid(invalidKey, "The key '%s' does not exist, is of another region, or can't be used by this account", key)
	}
	snapshot.Encrypted, snapshot.KmsKeyId, snapshot.Noise = true, key, true
	return nil
}

// inherit gives a snapshot its parent's blocks, lineage and encryption.
func (s *Service) inherit(c *api.Call, snapshot *storage.Snapshot, parentID string) (*storage.Blocks, error) {
	parent, err := s.readable(c, parentID)
	if err != nil {
		return nil, err
	}
	byDefault, _ := s.account.EncryptionByDefault(c.Region)
	switch {
	case snapshot.VolumeSize < parent.VolumeSize:
		return nil, invalid(invalidSize, "VolumeSize %d GiB is less than the %d GiB of the parent '%s'", snapshot.VolumeSize, parent.VolumeSize, parentID)
	case byDefault && !parent.Encrypted:
		return nil, invalid(invalidDependency, "The parent '%s' is not encrypted, but the account has encryption by default; copy the parent encrypted first", parentID)
	}
	if parent.Encrypted {
		s.noteKey(c, parent.KmsKeyId, "CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKeyWithoutPlaintext")
	}
	snapshot.Lineage = parent.Lineage
	snapshot.Encrypted, snapshot.KmsKeyId, snapshot.Noise = parent.Encrypted, parent.KmsKeyId, parent.Noise
	return parent.Blocks(), nil
}
