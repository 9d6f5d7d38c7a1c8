package machine

import "testing"

func TestTree(t *testing.T) {
	answer := Tree(map[string]string{
		"meta-data/instance-id":                          "i-1",
		"meta-data/placement/availability-zone":          "eu-west-1a",
		"meta-data/placement/region":                     "eu-west-1",
		"meta-data/public-keys/0=ops/openssh-key":        "ssh-ed25519 AAAA",
		"dynamic/instance-identity/document":             "{}",
		"meta-data/tags/instance/Name":                   "hello",
		"meta-data/network/interfaces/macs/06:00/mac":    "06:00",
		"meta-data/network/interfaces/macs/06:00/vpc-id": "vpc-1",
	})
	for _, test := range []struct{ name, path, want string }{
		{"a leaf", "meta-data/instance-id", "i-1"},
		{"a leaf further down", "meta-data/placement/region", "eu-west-1"},
		{"the top", "", "dynamic/\nmeta-data/"},
		{"a directory", "meta-data/placement/", "availability-zone\nregion"},
		{"a directory, asked without the slash", "meta-data/placement", "availability-zone\nregion"},
		{"a directory of directories", "meta-data/", "instance-id\nnetwork/\nplacement/\npublic-keys/\ntags/"},
		{"the keys, by number and name", "meta-data/public-keys/", "0=ops"},
		{"a key, by its number", "meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, found := answer(test.path); !found || got != test.want {
				t.Errorf("%q holds %q (found: %t), want %q", test.path, got, found, test.want)
			}
		})
	}
	for _, path := range []string{"meta-data/iam", "meta-data/instance-id/x", "meta", "/"} {
		if got, found := answer(path); found {
			t.Errorf("%q holds %q, want nothing", path, got)
		}
	}
}
