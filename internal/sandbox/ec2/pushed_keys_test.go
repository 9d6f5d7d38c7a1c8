package ec2

import (
	"strings"
	"testing"
	"time"
)

func TestPushedKeysAreInTheMetadataForTheirTime(t *testing.T) {
	w := newWorld(t)
	id := w.run(single(w.image("hello")))[0]
	w.untilRunning(id)
	const path = "meta-data/managed-ssh-keys/active-keys/"
	push := func(user, key string, stays time.Duration) {
		w.books.Do(func() {
			w.service.PushKey("eu-west-1", id, user, key, "arn:aws:iam::123456789012:user/AKIATEST", "request", stays)
		})
	}
	push("ec2-user", "ssh-ed25519 ended", 0)
	push("ec2-user", "ssh-ed25519 one", time.Hour)
	push("ec2-user", "ssh-ed25519 two", time.Hour)
	push("ec2-user", "ssh-ed25519 one", time.Hour)
	metadata := w.service.metadata("eu-west-1", id)
	text, found := metadata(path + "ec2-user")
	if !found || strings.Contains(text, "ended") || strings.Count(text, "ssh-ed25519") != 2 || !strings.Contains(text, "#Instance="+id+"\n#Caller=arn:aws:iam::123456789012:user/AKIATEST\n#Request=request\nssh-ed25519 two\n\n") {
		t.Errorf("the user's keys are %v:\n%s", found, text)
	}
	if text, found := metadata(path + "root"); found {
		t.Errorf("another user has keys:\n%s", text)
	}
}

func TestWhereKeysArePushedTo(t *testing.T) {
	w := newWorld(t)
	id := w.run(single(w.image("hello")))[0]
	w.untilRunning(id)
	w.books.Do(func() {
		if place, found := w.service.ConnectPlace("eu-west-1", id); !found || place.State != Running || place.Zone == "" || place.ARN != "arn:aws:ec2:eu-west-1:123456789012:instance/"+id {
			t.Errorf("found %v: %+v", found, place)
		}
		if _, found := w.service.ConnectPlace("us-east-1", id); found {
			t.Error("it is found in another region")
		}
	})
}
