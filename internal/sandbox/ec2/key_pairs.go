package ec2

import (
	"cmp"
	"crypto"
	"crypto/ed25519"
	"crypto/md5" //nolint:gosec // EC2's fingerprint of an imported RSA key
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // EC2's fingerprint of a created RSA key
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// keyPair is a key pair, of which EC2 keeps the public half.
type keyPair struct {
	resource
	Name        string
	Type        string // rsa or ed25519
	Fingerprint string
	PublicKey   string // as in authorized_keys
}

// keyPair finds a key pair by id or by name.
func (r *region) keyPair(id, name string) (*keyPair, error) {
	found, ok := seen(r.KeyPairs, id)
	if id == "" {
		found = r.keyPairNamed(name)
		ok = found != nil && !found.unseen()
	}
	if ok {
		return found, nil
	}
	if id != "" {
		return nil, fail("InvalidKeyPair.NotFound", "The key pair ID '%s' does not exist", id)
	}
	return nil, fail("InvalidKeyPair.NotFound", "The key pair '%s' does not exist", name)
}

// keyPairNamed finds a key pair by its name, seen or not; nil if there is none.
func (r *region) keyPairNamed(name string) *keyPair {
	for _, key := range r.KeyPairs {
		if key.Name == name {
			return key
		}
	}
	return nil
}

// maxKeyName is how long the name of a key pair may be (CreateKeyPair: "Up to
// 255 ASCII characters").
const maxKeyName = 255

func checkKeyName(name string) error {
	switch {
	case len(name) > maxKeyName:
		return invalidValue(name, "KeyName", "Character count exceeds 255.")
	case strings.TrimSpace(name) != name:
		return invalidValue(name, "KeyName", "It may not begin or end with a space.")
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' }):
		return invalidValue(name, "KeyName", "It may have ASCII characters only.")
	}
	return nil
}

var errDuplicateKey = fail("InvalidKeyPair.Duplicate", "The keypair already exists")

// addKeyPair keeps a public key under a name.
func (r *region) addKeyPair(name, kind, fingerprint string, public ssh.PublicKey, with tags) (*keyPair, error) {
	if err := checkKeyName(name); err != nil {
		return nil, err
	}
	if r.keyPairNamed(name) != nil {
		return nil, errDuplicateKey
	}
	key := &keyPair{
		resource: r.newResource("key", with), Name: name, Type: kind, Fingerprint: fingerprint,
		PublicKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))) + " " + name,
	}
	r.KeyPairs[key.Id] = key
	return key, nil
}

// newKeyPair notes what a key pair's maker must be permitted, and gives the
// tags that it is to have.
func (r *region) newKeyPair(c *api.Call, name string, specifications []tagSpecification) (tags, error) {
	tagged, err := specified(specifications, "key-pair")
	if err != nil {
		return nil, err
	}
	c.On(r.arn("key-pair", name))
	r.tagOnCreate(c, tagged)
	return tagged["key-pair"], nil
}

type createKeyPairInput struct {
	KeyFormat         string
	KeyName           string `wire:",,required"`
	KeyType           string
	TagSpecifications []tagSpecification `wire:"TagSpecification"`
}

type createKeyPairOutput struct {
	KeyFingerprint string
	KeyMaterial    string
	KeyName        string
	KeyPairId      string
	Tags           []tag `wire:",tagSet"`
}

func (r *region) createKeyPair(c *api.Call, in *createKeyPairInput) (*createKeyPairOutput, error) {
	if err := checkKeyName(in.KeyName); err != nil {
		return nil, err
	}
	if _, err := r.keyPair("", in.KeyName); err == nil {
		return nil, errDuplicateKey
	}
	if in.KeyFormat != "" && in.KeyFormat != "pem" {
		return nil, invalidValue(in.KeyFormat, "KeyFormat", "The sandbox makes keys in the pem format only.")
	}
	kind := cmp.Or(in.KeyType, "rsa")
	generate := map[string]func() (madeKey, error){"rsa": newRSA, "ed25519": newEd25519}[kind]
	if generate == nil {
		return nil, invalidValue(in.KeyType, "KeyType", "Expected one of 'rsa', 'ed25519'.")
	}
	with, err := r.newKeyPair(c, in.KeyName, in.TagSpecifications)
	if err != nil {
		return nil, err
	}
	var made madeKey
	c.Outside(func() { made, err = generate() })
	if err != nil {
		return nil, err
	}
	key, err := r.addKeyPair(in.KeyName, kind, made.fingerprint, made.public, with)
	if err != nil {
		return nil, err
	}
	return &createKeyPairOutput{key.Fingerprint, made.private, key.Name, key.Id, key.Tags.wire()}, nil
}

// madeKey is a new key. Its private half is given to the caller, not kept.
type madeKey struct {
	public      ssh.PublicKey
	private     string // PEM
	fingerprint string
}

func newRSA() (madeKey, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return madeKey{}, fmt.Errorf("make an RSA key: %w", err)
	}
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		return madeKey{}, fmt.Errorf("make an RSA key: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return madeKey{}, fmt.Errorf("make an RSA key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)})
	sum := sha1.Sum(pkcs8) //nolint:gosec // as above
	return madeKey{public, string(text), colons(sum[:])}, nil
}

func newEd25519() (madeKey, error) {
	raw, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return madeKey{}, fmt.Errorf("make an Ed25519 key: %w", err)
	}
	public, err := ssh.NewPublicKey(raw)
	if err != nil {
		return madeKey{}, fmt.Errorf("make an Ed25519 key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(crypto.PrivateKey(private), "")
	if err != nil {
		return madeKey{}, fmt.Errorf("make an Ed25519 key: %w", err)
	}
	return madeKey{public, string(pem.EncodeToMemory(block)), fingerprintEd25519(public)}, nil
}

func fingerprintEd25519(public ssh.PublicKey) string {
	return strings.TrimPrefix(ssh.FingerprintSHA256(public), "SHA256:") + "="
}

func colons(sum []byte) string {
	parts := make([]string, len(sum))
	for i := range sum {
		parts[i] = hex.EncodeToString(sum[i : i+1])
	}
	return strings.Join(parts, ":")
}

type importKeyPairInput struct {
	KeyName           string             `wire:",,required"`
	PublicKeyMaterial []byte             `wire:",,required"`
	TagSpecifications []tagSpecification `wire:"TagSpecification"`
}

type importKeyPairOutput struct {
	KeyFingerprint string
	KeyName        string
	KeyPairId      string
	Tags           []tag `wire:",tagSet"`
}

func (r *region) importKeyPair(c *api.Call, in *importKeyPairInput) (*importKeyPairOutput, error) {
	public, _, _, _, err := ssh.ParseAuthorizedKey(in.PublicKeyMaterial)
	if err != nil {
		return nil, fail("InvalidKey.Format", "Key is not in valid OpenSSH public key format")
	}
	var kind, fingerprint string
	switch public.Type() {
	case ssh.KeyAlgoRSA:
		key, ok := public.(ssh.CryptoPublicKey)
		if !ok {
			return nil, fail("InvalidKey.Format", "Key is not in valid OpenSSH public key format")
		}
		der, err := x509.MarshalPKIXPublicKey(key.CryptoPublicKey())
		if err != nil {
			return nil, fail("InvalidKey.Format", "Key is not in valid OpenSSH public key format")
		}
		sum := md5.Sum(der) //nolint:gosec // as above
		kind, fingerprint = "rsa", colons(sum[:])
	case ssh.KeyAlgoED25519:
		kind, fingerprint = "ed25519", fingerprintEd25519(public)
	default:
		return nil, fail("InvalidKey.Format", "Keys of type %s are not supported; use RSA or Ed25519", public.Type())
	}
	with, err := r.newKeyPair(c, in.KeyName, in.TagSpecifications)
	if err != nil {
		return nil, err
	}
	key, err := r.addKeyPair(in.KeyName, kind, fingerprint, public, with)
	if err != nil {
		return nil, err
	}
	return &importKeyPairOutput{key.Fingerprint, key.Name, key.Id, key.Tags.wire()}, nil
}

type keyPairItem struct {
	CreateTime     time.Time
	KeyFingerprint string
	KeyName        string
	KeyPairId      string
	KeyType        string
	PublicKey      string
	Tags           []tag `wire:",tagSet"`
}

type describeKeyPairsInput struct {
	Filters          []filter `wire:"Filter"`
	IncludePublicKey bool
	KeyNames         []string `wire:"KeyName"`
	KeyPairIds       []string `wire:"KeyPairId"`
}

type describeKeyPairsOutput struct {
	KeyPairs []keyPairItem `wire:",keySet"`
}

var keyPairFilters = filterable[keyPairItem]{
	values: map[string]func(keyPairItem) []string{
		"fingerprint": func(k keyPairItem) []string { return []string{k.KeyFingerprint} },
		"key-name":    func(k keyPairItem) []string { return []string{k.KeyName} },
		"key-pair-id": func(k keyPairItem) []string { return []string{k.KeyPairId} },
	},
	tags: func(k keyPairItem) tags { return tagMap(k.Tags) },
}

func (r *region) describeKeyPairs(_ *api.Call, in *describeKeyPairsInput) (*describeKeyPairsOutput, error) {
	var ids []string
	for _, id := range in.KeyPairIds {
		if _, err := r.keyPair(id, ""); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	for _, name := range in.KeyNames {
		key, err := r.keyPair("", name)
		if err != nil {
			return nil, err
		}
		ids = append(ids, key.Id)
	}
	item := func(k *keyPair) keyPairItem {
		it := keyPairItem{k.Created, k.Fingerprint, k.Name, k.Id, k.Type, "", k.Tags.wire()}
		if in.IncludePublicKey {
			it.PublicKey = k.PublicKey
		}
		return it
	}
	found, _, err := describe(ordered(r.KeyPairs), ids, item, keyPairFilters, in.Filters, paging{}, pageRange{})
	return &describeKeyPairsOutput{found}, err
}

type deleteKeyPairInput struct {
	KeyName   string
	KeyPairId string
}

type deleteKeyPairOutput struct {
	KeyPairId string
	Return    bool
}

// deleteKeyPair succeeds for a key pair that is not there, as AWS does.
func (r *region) deleteKeyPair(c *api.Call, in *deleteKeyPairInput) (*deleteKeyPairOutput, error) {
	if in.KeyName == "" && in.KeyPairId == "" {
		return nil, fail("MissingParameter", "The request must contain the parameter KeyName or KeyPairId")
	}
	key, err := r.keyPair(in.KeyPairId, in.KeyName)
	if err != nil {
		c.On(r.arn("key-pair", cmp.Or(in.KeyName, "*")))
		return &deleteKeyPairOutput{Return: true}, nil
	}
	c.On(r.arn("key-pair", key.Name))
	delete(r.KeyPairs, key.Id)
	return &deleteKeyPairOutput{key.Id, true}, nil
}
