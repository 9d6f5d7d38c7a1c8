package ec2

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// pushedKey is a login key that EC2 Instance Connect has pushed to an instance,
// for one of its users.
type pushedKey struct {
	User    string
	Key     string // as in authorized_keys
	Caller  string // ARN of who pushed it
	Request string
	Until   time.Time
}

// ConnectPlace is an instance as EC2 Instance Connect sees it.
type ConnectPlace struct {
	ARN   string
	State InstanceState
	Zone  string
}

// ConnectPlace describes an instance for EC2 Instance Connect; false when there
// is none of that id. The books must be held.
func (s *Service) ConnectPlace(regionName, id string) (ConnectPlace, bool) {
	r := s.in(regionName)
	i, err := r.instance(id)
	if err != nil {
		return ConnectPlace{}, false
	}
	return ConnectPlace{ARN: r.arn("instance", i.Id), State: i.State, Zone: i.Zone}, true
}

// PushKey puts a login key into the metadata of an instance that there is, where
// it stays for the time given. The books must be held.
func (s *Service) PushKey(regionName, id, user, key, caller, request string, stays time.Duration) {
	i, now := s.in(regionName).Instances[id], s.clock.Now()
	i.PushedKeys = slices.DeleteFunc(i.PushedKeys, func(k pushedKey) bool { return k.ended(now) || k.User == user && k.Key == key })
	i.PushedKeys = append(i.PushedKeys, pushedKey{User: user, Key: key, Caller: caller, Request: request, Until: now.Add(stays)})
}

func (k pushedKey) ended(now time.Time) bool { return !now.Before(k.Until) }

// pushedLeaves are the pushed keys of each user in the metadata of an instance,
// as AWS's own reader of them has it
// (https://github.com/aws/aws-ec2-instance-connect-config, eic_parse_authorized_keys),
// but without a signature.
func (i *instance) pushedLeaves(now time.Time) map[string]string {
	texts := map[string]*strings.Builder{}
	for _, k := range i.PushedKeys {
		if k.ended(now) {
			continue
		}
		if texts[k.User] == nil {
			texts[k.User] = &strings.Builder{}
		}
		fmt.Fprintf(texts[k.User], "#Timestamp=%d\n#Instance=%s\n#Caller=%s\n#Request=%s\n%s\n\n", k.Until.Unix()+1, i.Id, k.Caller, k.Request, k.Key)
	}
	leaves := map[string]string{}
	for user, text := range texts {
		leaves["meta-data/managed-ssh-keys/active-keys/"+user] = text.String()
	}
	return leaves
}
