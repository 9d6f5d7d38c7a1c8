package instance

import (
	"testing"
	"time"
)

func TestLeftGoesByProgress(t *testing.T) {
	for _, test := range []struct {
		progress string
		want     time.Duration
	}{
		{"25%", 31500 * time.Millisecond},
		{"50%", 10500 * time.Millisecond},
		{"", 0}, {"0%", 0}, {"100%", 0}, {"completing", 0},
	} {
		if got := left(test.progress, 10*time.Second); got != test.want {
			t.Errorf("after 10 s and %q it takes %s, want %s", test.progress, got, test.want)
		}
	}
}
