package session

import (
	"errors"
	"testing"
	"time"
)

func TestATokenIsReadAsItWasMade(t *testing.T) {
	made := Session{Key: "ASIAX", Role: "arn:aws:iam::123456789012:role/path/baker", Name: "bake", Expires: time.Unix(1_800_000_000, 0).UTC()}
	token, err := made.Token()
	if err != nil {
		t.Fatal(err)
	}
	if read, ours, err := Read(token); read != made || !ours || err != nil {
		t.Errorf("read %+v (ours: %t, %v), want %+v", read, ours, err, made)
	}
	if arn := made.ARN("123456789012"); arn != "arn:aws:sts::123456789012:assumed-role/baker/bake" {
		t.Errorf("the session is called %s", arn)
	}
	if _, ours, err := Read("FwoGZXIvYXdzEBY"); ours || err != nil {
		t.Errorf("another's token is ours: %t (%v)", ours, err)
	}
	if _, ours, err := Read(token[:len(token)-3]); !ours || !errors.Is(err, ErrMalformed) {
		t.Errorf("half a token is ours: %t (%v)", ours, err)
	}
}
