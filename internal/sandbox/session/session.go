// Package session makes and reads the session tokens of temporary credentials.
//
// A token itself says whose it is and when it ends, so that nothing of it must
// be kept. It is not signed: the sandbox verifies no signature either.
package session

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Session is what temporary credentials are of.
type Session struct {
	Key     string    // access key id
	Role    string    // ARN of the role that was assumed
	Name    string    // of the session
	Expires time.Time // the end
}

// prefix tells our tokens from others that a client may send, about which
// nothing is known.
const prefix = "sandbox."

// Token is the session's token.
func (s Session) Token() (string, error) {
	text, err := json.Marshal(s)
	return prefix + base64.RawURLEncoding.EncodeToString(text), err
}

// ErrMalformed says that a token begins as ours do and then makes no sense.
var ErrMalformed = errors.New("the session token is malformed")

// Read reads a token; ok tells whether it is one of ours.
func Read(token string) (s Session, ok bool, err error) {
	encoded, ok := strings.CutPrefix(token, prefix)
	if !ok {
		return Session{}, false, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || json.Unmarshal(text, &s) != nil {
		return Session{}, true, ErrMalformed
	}
	return s, true, nil
}

// RoleID is how AWS calls the role without its path. Its real ones are random.
func (s Session) RoleID() string { return "AROA" + s.roleName() }

// ARN is how AWS calls the session in an account.
func (s Session) ARN(account string) string {
	return fmt.Sprintf("arn:aws:sts::%s:assumed-role/%s/%s", account, s.roleName(), s.Name)
}

func (s Session) roleName() string { return s.Role[strings.LastIndex(s.Role, "/")+1:] }
