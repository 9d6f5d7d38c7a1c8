package acceptance

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestBoto3 runs the tests in testdata/boto3, which are written in Python's own
// way, with Debian's boto3.
func TestBoto3(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/boto3/test_*.py")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("found %d scripts (%v)", len(scripts), err)
	}
	stage, box := states(t, "typical", "0.02")
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".py"), func(t *testing.T) {
			t.Parallel()
			// Connections that are open at the end are no concern of the tests.
			output, err := botocore(t, stage, box, "/usr/bin/python3", "-B", "-W", "ignore::ResourceWarning", script).CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, output)
			}
		})
	}
}
