package ec2

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// There is no KMS here: a key is known by its name alone.
//
//   - Every key of the callers' account and of the region exists whose id has
//     the form of one: a UUID, or mrk- and 32 hexadecimal digits.
//   - Every alias of the account and the region exists, but for those that begin
//     with alias/aws/, of which alias/aws/ebs alone does. An alias stands for one
//     key, always the same.
//   - A key of another account or another region, and what is neither a key nor
//     an alias (an alias without alias/ in front of it, say), is not accessible.
//
// AWS looks at a key after it has answered: a copy or a volume that wants a key
// that is not accessible is begun, and fails
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CopySnapshot.html, KmsKeyId).

// keyNotAccessible is the status message of a copy without its key
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-copy-snapshot.html#ebs-snapshot-copy).
const keyNotAccessible = "Given key ID is not accessible"

const defaultKeyAlias = "alias/aws/ebs"

var (
	keyID    = regexp.MustCompile(`^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$`)
	keyAlias = regexp.MustCompile(`^alias/[A-Za-z0-9/_-]+$`)
)

// EncryptionByDefault tells whether the account encrypts new volumes and
// snapshots in a region, and gives the key with which it does where no other is
// named. The books must be held.
func (s *Service) EncryptionByDefault(regionName string) (enabled bool, kmsKeyArn string) {
	r := s.in(regionName)
	return r.EncryptionByDefault, r.defaultKey()
}

// KeyAccessible tells whether the callers can use the key of an ARN in a
// region. The books must be held.
func (s *Service) KeyAccessible(regionName, arn string) bool { return s.in(regionName).accessible(arn) }

// defaultKey is the key of a region that encrypts where no other is named.
func (r *region) defaultKey() string { return r.aliased(defaultKeyAlias) }

func (r *region) keyARN(resource string) string {
	return "arn:aws:kms:" + r.name + ":" + api.Account + ":" + resource
}

// aliased gives the key that an alias stands for.
func (r *region) aliased(alias string) string {
	sum := sha256.Sum256([]byte(r.name + "/" + alias))
	return r.keyARN(fmt.Sprintf("key/%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16]))
}

// key gives the ARN of the key that a request names: by id, by alias, by the ARN
// of either, or not at all. It is none that is accessible where there is no
// such key.
func (r *region) key(named string) string {
	local := strings.TrimPrefix(named, r.keyARN(""))
	switch {
	case named == "":
		return r.defaultKey()
	case keyAlias.MatchString(local) && (local == defaultKeyAlias || !strings.HasPrefix(local, "alias/aws/")):
		return r.aliased(local)
	case strings.HasPrefix(named, "arn:"):
		return named
	}
	return r.keyARN("key/" + strings.TrimPrefix(named, "key/"))
}

// accessible tells whether the callers can use the key of an ARN in the region.
func (r *region) accessible(arn string) bool {
	id, ok := strings.CutPrefix(arn, r.keyARN("key/"))
	return ok && keyID.MatchString(id)
}
