package ebs

import (
	"testing"
	"time"
)

func TestTokensExpire(t *testing.T) {
	key := &tokenKey{Secret: []byte("secret")}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, life := range map[string]time.Duration{"page": pageTokenLife, "block": blockTokenLife} {
		token := key.listing(now).token(name, 5, life)
		if index, ok := key.open(token, name, now.Add(life)); !ok || index != 5 {
			t.Errorf("the token of a %s is of index %d, valid %v, before its time is over", name, index, ok)
		}
		if _, ok := key.open(token, name, now.Add(life+time.Second)); ok {
			t.Errorf("the token of a %s is valid after its time", name)
		}
		if _, ok := (&tokenKey{Secret: []byte("another")}).open(token, name, now); ok {
			t.Errorf("the token of a %s is valid in another region", name)
		}
	}
}
