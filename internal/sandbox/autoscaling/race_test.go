//go:build race

package autoscaling_test

// The race detector multiplies memory, which is what that test measures.
func init() { raceDetector = true }
