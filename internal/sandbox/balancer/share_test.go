package balancer

import (
	"strings"
	"testing"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/elbv2"
)

func TestSharesAreExact(t *testing.T) {
	share := newShare([]elbv2.Weighted{{TargetGroup: "a", Weight: 999}, {TargetGroup: "b", Weight: 1}, {TargetGroup: "c", Weight: 0}, {TargetGroup: "d", Weight: 500}})
	dealt := map[string]int{}
	for range 3 * (999 + 1 + 500) {
		dealt[share.next()]++
	}
	if dealt["a"] != 3*999 || dealt["b"] != 3 || dealt["c"] != 0 || dealt["d"] != 3*500 {
		t.Errorf("dealt %v, want three times 999, 1, 0 and 500", dealt)
	}
}

func TestShare(t *testing.T) {
	for _, test := range []struct {
		name   string
		groups []elbv2.Weighted
		want   string
	}{
		{"one group", []elbv2.Weighted{{TargetGroup: "a", Weight: 1}}, "aaaaaaaa"},
		{"equal weights", []elbv2.Weighted{{TargetGroup: "a", Weight: 5}, {TargetGroup: "b", Weight: 5}}, "abababab"},
		{"three to one", []elbv2.Weighted{{TargetGroup: "a", Weight: 3}, {TargetGroup: "b", Weight: 1}}, "aabaaaba"},
		{"a weight of 0", []elbv2.Weighted{{TargetGroup: "a", Weight: 0}, {TargetGroup: "b", Weight: 1}}, "bbbbbbbb"},
		{"only weights of 0", []elbv2.Weighted{{TargetGroup: "a", Weight: 0}}, ""},
		{"no group", nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			share, got := newShare(test.groups), new(strings.Builder)
			for range 8 {
				got.WriteString(share.next())
			}
			if got.String() != test.want {
				t.Errorf("deals %q, want %q", got, test.want)
			}
		})
	}
}
