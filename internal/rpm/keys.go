package rpm

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
)

// Keys are OpenPGP public keys.
type Keys openpgp.EntityList

const (
	publicBlock  = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
	privateBlock = "-----BEGIN PGP PRIVATE KEY BLOCK-----"
)

// ReadKeys reads the public keys of a file, which may be binary, or have any
// number of armored blocks.
func ReadKeys(path string) (Keys, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if bytes.Contains(text, []byte(privateBlock)) {
		return nil, fmt.Errorf("%s has a private key; give the public key only", path)
	}
	blocks := bytes.Split(text, []byte(publicBlock))
	if len(blocks) == 1 {
		keys, err := openpgp.ReadKeyRing(bytes.NewReader(text))
		return known(path, keys, err)
	}
	var all Keys
	for _, block := range blocks[1:] {
		decoded, err := armor.Decode(bytes.NewReader(append([]byte(publicBlock), block...)))
		if err != nil {
			return nil, fmt.Errorf("%s is not an OpenPGP public key: %w", path, err)
		}
		keys, err := openpgp.ReadKeyRing(decoded.Body)
		some, err := known(path, keys, err)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

func known(path string, keys openpgp.EntityList, err error) (Keys, error) {
	if err == nil && len(keys) == 0 {
		err = errors.New("it has no key")
	}
	if err != nil {
		return nil, fmt.Errorf("%s is not an OpenPGP public key: %w", path, err)
	}
	for _, key := range keys {
		if key.PrivateKey != nil {
			return nil, fmt.Errorf("%s has a private key; give the public key only", path)
		}
	}
	return Keys(keys), nil
}
