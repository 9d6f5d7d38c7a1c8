package sts

import (
	"context"
	"crypto/rand"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/session"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

type assumeRoleInput struct {
	RoleArn         string `wire:",,required"`
	RoleSessionName string `wire:",,required"`
	DurationSeconds *int32
	ExternalId      *string
}

type assumeRoleOutput struct {
	Credentials     credentials
	AssumedRoleUser assumedRoleUser
}

type credentials struct {
	AccessKeyId     string
	SecretAccessKey string
	SessionToken    string
	Expiration      time.Time
}

type assumedRoleUser struct {
	AssumedRoleId string
	Arn           string
}

// The limits and forms of AssumeRole's parameters
// (https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html).
const (
	leastDuration, mostDuration, defaultDuration = 900, 43200, 3600 // seconds

	mostExternal = 1224 // characters
)

var (
	roleForm     = regexp.MustCompile(`^arn:aws:iam::([0-9]{12}):role/[\x21-\x7e]+$`)
	nameForm     = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
	externalForm = regexp.MustCompile(`^[\w+=,.@:/-]{2,}$`)
)

// assumeRole gives temporary credentials of any role of the account: the sandbox
// knows no roles, nor who may assume them. Their time is one that the caller asks
// for, so that --time-scale scales it.
func (s service) assumeRole(_ context.Context, c *api.Call, in *assumeRoleInput) (*assumeRoleOutput, error) {
	role := roleForm.FindStringSubmatch(in.RoleArn)
	duration := int32(defaultDuration)
	if in.DurationSeconds != nil {
		duration = *in.DurationSeconds
	}
	switch {
	case role == nil:
		return nil, invalid("%s is invalid", in.RoleArn)
	case !nameForm.MatchString(in.RoleSessionName):
		return nil, invalid("Value '%s' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]* and have a length from 2 to 64", in.RoleSessionName)
	case in.ExternalId != nil && (!externalForm.MatchString(*in.ExternalId) || len(*in.ExternalId) > mostExternal):
		return nil, invalid("Value '%s' at 'externalId' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@:\\/-]* and have a length from 2 to 1224", *in.ExternalId)
	case duration < leastDuration || duration > mostDuration:
		return nil, invalid("Value '%d' at 'durationSeconds' failed to satisfy constraint: Member must have a value from %d to %d", duration, leastDuration, mostDuration)
	}
	c.On(in.RoleArn)
	if role[1] != c.Account {
		return nil, wire.Errorf("AccessDenied", "User: %s is not authorized to perform: sts:AssumeRole on resource: %s", c.User(), in.RoleArn).With(http.StatusForbidden)
	}
	made := session.Session{
		Key: "ASIA" + strings.ToUpper(rand.Text()[:16]), Role: in.RoleArn, Name: in.RoleSessionName,
		Expires: c.Now.Add(s.clock.Interval(time.Duration(duration) * time.Second)).UTC(),
	}
	token, err := made.Token()
	if err != nil {
		return nil, err
	}
	return &assumeRoleOutput{
		Credentials:     credentials{made.Key, rand.Text() + rand.Text()[:14], token, made.Expires},
		AssumedRoleUser: assumedRoleUser{made.RoleID() + ":" + made.Name, made.ARN(c.Account)},
	}, nil
}

func invalid(format string, args ...any) error {
	return wire.Errorf("ValidationError", "1 validation error detected: "+format, args...)
}
