package image

// Encryption is how an AMI's snapshots are to be encrypted.
type Encryption struct {
	// Wanted is nil to leave it as it is in the base.
	Wanted *bool
	// Key is the ID, alias or ARN of a KMS key; "" is the account's default.
	Key string
}
