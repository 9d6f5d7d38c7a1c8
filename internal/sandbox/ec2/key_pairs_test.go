package ec2

import (
	"crypto/ed25519"
	"crypto/rand"
	"os/exec"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/crypto/ssh"
)

func TestKeyPairs(t *testing.T) {
	w := newWorld(t)
	for _, kind := range []types.KeyType{types.KeyTypeRsa, types.KeyTypeEd25519} {
		name := "made-" + string(kind)
		made, err := w.CreateKeyPair(t.Context(), &ec2.CreateKeyPairInput{KeyName: &name, KeyType: kind})
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.ParsePrivateKey([]byte(*made.KeyMaterial))
		if err != nil {
			t.Fatal(err)
		}
		out, err := w.DescribeKeyPairs(t.Context(), &ec2.DescribeKeyPairsInput{KeyNames: []string{name}, IncludePublicKey: aws.Bool(true)})
		if err != nil {
			t.Fatal(err)
		}
		if public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))); *out.KeyPairs[0].PublicKey != public+" "+name {
			t.Errorf("%s: the public key is %s, want %s", kind, *out.KeyPairs[0].PublicKey, public)
		}
	}
	raw, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	material := ssh.MarshalAuthorizedKey(public)
	if _, err := w.ImportKeyPair(t.Context(), &ec2.ImportKeyPairInput{KeyName: aws.String("mine"), PublicKeyMaterial: material}); err != nil {
		t.Fatal(err)
	}
	_, err = w.ImportKeyPair(t.Context(), &ec2.ImportKeyPairInput{KeyName: aws.String("mine"), PublicKeyMaterial: material})
	refused(t, err, "InvalidKeyPair.Duplicate")
	_, err = w.ImportKeyPair(t.Context(), &ec2.ImportKeyPairInput{KeyName: aws.String("other"), PublicKeyMaterial: []byte("hello")})
	refused(t, err, "InvalidKey.Format")

	in := single(w.image("hello"))
	in.KeyName = aws.String("mine")
	id := w.run(in)[0]
	if got, found := w.service.metadata("eu-west-1", id)("meta-data/public-keys/0/openssh-key"); !found || !strings.HasPrefix(got, "ssh-ed25519 ") {
		t.Errorf("the metadata service has the key %q", got)
	}
	for range 2 { // deleting what is not there succeeds
		if _, err := w.DeleteKeyPair(t.Context(), &ec2.DeleteKeyPairInput{KeyName: aws.String("mine")}); err != nil {
			t.Error(err)
		}
	}
}

// TestFingerprints compares the fingerprints with those that the tools give
// which AWS names
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/verify-keys.html).
func TestFingerprints(t *testing.T) {
	w := newWorld(t)
	openssl := func(in string, args ...string) string {
		t.Helper()
		command := exec.CommandContext(t.Context(), "openssl", args...)
		command.Stdin = strings.NewReader(in)
		out, err := command.Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	sum := func(hash, der string) string {
		_, sum, _ := strings.Cut(strings.TrimSpace(openssl(der, hash, "-c")), "= ")
		return sum
	}
	made, err := w.CreateKeyPair(t.Context(), &ec2.CreateKeyPairInput{KeyName: aws.String("made")})
	if err != nil {
		t.Fatal(err)
	}
	if want := sum("sha1", openssl(*made.KeyMaterial, "pkcs8", "-inform", "PEM", "-outform", "DER", "-topk8", "-nocrypt")); *made.KeyFingerprint != want {
		t.Errorf("a created RSA key has the fingerprint %s, want %s", *made.KeyFingerprint, want)
	}
	signer, err := ssh.ParsePrivateKey([]byte(*made.KeyMaterial))
	if err != nil {
		t.Fatal(err)
	}
	imported, err := w.ImportKeyPair(t.Context(), &ec2.ImportKeyPairInput{KeyName: aws.String("imported"), PublicKeyMaterial: ssh.MarshalAuthorizedKey(signer.PublicKey())})
	if err != nil {
		t.Fatal(err)
	}
	if want := sum("md5", openssl(*made.KeyMaterial, "pkey", "-pubout", "-outform", "DER")); *imported.KeyFingerprint != want {
		t.Errorf("an imported RSA key has the fingerprint %s, want %s", *imported.KeyFingerprint, want)
	}
	curve, err := w.CreateKeyPair(t.Context(), &ec2.CreateKeyPairInput{KeyName: aws.String("curve"), KeyType: types.KeyTypeEd25519})
	if err != nil {
		t.Fatal(err)
	}
	if signer, err = ssh.ParsePrivateKey([]byte(*curve.KeyMaterial)); err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimPrefix(ssh.FingerprintSHA256(signer.PublicKey()), "SHA256:") + "="; *curve.KeyFingerprint != want {
		t.Errorf("an Ed25519 key has the fingerprint %s, want %s", *curve.KeyFingerprint, want)
	}
}

func TestKeyPairsAreFoundByTheirFiltersAndRefused(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"one", "two"} {
		if _, err := w.CreateKeyPair(t.Context(), &ec2.CreateKeyPairInput{
			KeyName: &name, KeyType: types.KeyTypeEd25519, TagSpecifications: []types.TagSpecification{specify(types.ResourceTypeKeyPair, "Name", name)},
		}); err != nil {
			t.Fatal(err)
		}
	}
	for filter, value := range map[string]string{"tag:Name": "two", "key-name": "t*", "tag-key": "Name"} {
		out, err := w.DescribeKeyPairs(t.Context(), &ec2.DescribeKeyPairsInput{Filters: []types.Filter{{Name: &filter, Values: []string{value}}, {Name: aws.String("key-name"), Values: []string{"two"}}}})
		if err != nil || len(out.KeyPairs) != 1 || *out.KeyPairs[0].KeyName != "two" || out.KeyPairs[0].PublicKey != nil {
			t.Errorf("by %s are found %+v, %v", filter, out, err)
		}
	}
	for name, test := range map[string]struct {
		in   ec2.CreateKeyPairInput
		code string
	}{
		"a name that is taken":   {ec2.CreateKeyPairInput{KeyName: aws.String("one")}, "InvalidKeyPair.Duplicate"},
		"a long name":            {ec2.CreateKeyPairInput{KeyName: aws.String(strings.Repeat("x", maxKeyName+1))}, "InvalidParameterValue"},
		"a name with space":      {ec2.CreateKeyPairInput{KeyName: aws.String(" one")}, "InvalidParameterValue"},
		"a name beyond ASCII":    {ec2.CreateKeyPairInput{KeyName: aws.String("eins-zwei-früh")}, "InvalidParameterValue"},
		"PuTTY's format":         {ec2.CreateKeyPairInput{KeyName: aws.String("new"), KeyFormat: types.KeyFormatPpk}, "InvalidParameterValue"},
		"another kind of key":    {ec2.CreateKeyPairInput{KeyName: aws.String("new"), KeyType: "ecdsa"}, "InvalidParameterValue"},
		"tags on something else": {ec2.CreateKeyPairInput{KeyName: aws.String("new"), TagSpecifications: []types.TagSpecification{specify(types.ResourceTypeImage, "a", "b")}}, "InvalidParameterValue"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.CreateKeyPair(t.Context(), &test.in)
			refused(t, err, test.code)
		})
	}
}
