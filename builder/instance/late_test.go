package instance

import (
	"testing"

	"github.com/immutable-server/packer-plugin-immutable/internal/image"
)

func TestWhatIsMadeMayBeSeenLate(t *testing.T) {
	for _, operation := range []string{"ImportKeyPair", "CreateSecurityGroup", "CreateLaunchTemplate", "CreateFleet", "CreateSnapshots", "RegisterImage"} {
		t.Run(operation, func(t *testing.T) {
			l := openLocal(t, `step {
				call   = "sts:GetCallerIdentity"
				faults = ["ec2:`+operation+`,kind=late,for=2s"]
			}`)
			made := l.made(nil)
			l.assertLeft(append(image.Snapshots(made), *made.ImageId)...)
		})
	}
}
