package clock

import "time"

// The times that AWS takes, typically, for a root volume of 8 GiB; for
// Transition. AWS documents none of them, so they are what people measured.
const (
	// Launch is from pending to running: 15 s
	// (https://github.com/hashicorp/packer/pull/4704), 16.5 s
	// (https://github.com/brevdev/ec2-coldboot-research), 5 s
	// (https://www.daemonology.net/blog/2021-08-12-EC2-boot-time-benchmarking.html).
	Launch = 15 * time.Second

	// StatusChecks is from running to both checks being ok: with them a start
	// takes 2 min 50 s (https://github.com/hashicorp/packer/issues/5705).
	StatusChecks = 150 * time.Second

	// Stop is from stopping to stopped: 25 s
	// (https://github.com/hashicorp/packer/issues/2033), 57 s
	// (https://github.com/hashicorp/packer/pull/4704).
	Stop = 40 * time.Second

	// Terminate is from shutting-down to terminated: "about one minute"
	// (https://github.com/hashicorp/packer-plugin-amazon/issues/682).
	Terminate = time.Minute

	// Volume is until a volume is made: "a few seconds after creation"
	// (https://github.com/fog/fog/pull/1758).
	Volume = 3 * time.Second

	// Snapshot is until a snapshot of a volume is completed: 43 s
	// (https://github.com/hashicorp/packer/pull/4704), 3 min
	// (https://github.com/aws/aws-sdk-ruby/issues/978).
	Snapshot = 90 * time.Second

	// DirectSnapshot is from EBS direct's CompleteSnapshot to completed.
	// Nobody's measurement was found; the SDK's waiter looks every 15 s, which
	// makes this its second look.
	DirectSnapshot = 30 * time.Second

	// Register is until a registered image is available. "Waiting for snapshots
	// is the longest part of AMI registration"
	// (https://github.com/bottlerocket-os/bottlerocket/pull/1066), and at the
	// registration they are completed.
	Register = 3 * time.Second

	// Copy is until a first copy of a snapshot or an image is completed: over a
	// minute (https://github.com/hashicorp/terraform/issues/7980); volume,
	// snapshot and a copy of 1 GiB take 153 s
	// (https://github.com/hashicorp/terraform-provider-aws/pull/40336); the least
	// time that AWS guarantees is 15 min (CopyImage,
	// SnapshotCopyCompletionDurationMinutes).
	Copy = 4 * time.Minute

	// LoadBalancer is from provisioning to active: a test that makes, awaits and
	// deletes one takes 231 s (https://github.com/hashicorp/terraform/pull/11333).
	LoadBalancer = 150 * time.Second

	// Refresh is from pending to in progress. Nobody's measurement was found.
	Refresh = 5 * time.Second
)
