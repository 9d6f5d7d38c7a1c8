package snapshot

// Index holds the digest of every block of a snapshot that was ever written.
type Index struct{}
