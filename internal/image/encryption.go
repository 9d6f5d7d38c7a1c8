package image

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// Encryption is how an AMI's snapshots are to be encrypted.
type Encryption struct {
	// Wanted is nil to leave it as it is in the base.
	Wanted *bool
	// Key is the ID, alias or ARN of a KMS key; "" is the account's default.
	Key string
	// ByDefault says that the account encrypts everything new, whatever is
	// wanted.
	ByDefault bool
}

// Defaulter tells whether an account encrypts by default; satisfied by
// *ec2.Client.
type Defaulter interface {
	GetEbsEncryptionByDefault(context.Context, *ec2.GetEbsEncryptionByDefaultInput, ...func(*ec2.Options)) (*ec2.GetEbsEncryptionByDefaultOutput, error)
}

// ErrEncryptsByDefault says that an unencrypted AMI can't be had.
var ErrEncryptsByDefault = errors.New("encrypt_boot is false, but this account encrypts all new EBS volumes and snapshots of the region; leave encrypt_boot out, or switch the account's EBS encryption by default off")

// AskDefault fills in ByDefault.
func (e *Encryption) AskDefault(ctx context.Context, api Defaulter) error {
	out, err := api.GetEbsEncryptionByDefault(ctx, &ec2.GetEbsEncryptionByDefaultInput{})
	if err != nil {
		return fmt.Errorf("ask whether the account encrypts by default (ec2:GetEbsEncryptionByDefault): %w", err)
	}
	e.ByDefault = aws.ToBool(out.EbsEncryptionByDefault)
	if e.ByDefault && e.Wanted != nil && !*e.Wanted {
		return ErrEncryptsByDefault
	}
	return nil
}

// Result says whether a new snapshot is to be encrypted, if it is made from a
// base that is encrypted or not.
func (e Encryption) Result(base bool) bool {
	if e.ByDefault {
		return true
	}
	if e.Wanted != nil {
		return *e.Wanted
	}
	return base
}
