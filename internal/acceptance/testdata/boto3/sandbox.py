"""What the tests with boto3 share."""

import base64
import functools
import hashlib
import os
import time
import uuid

import boto3
from botocore.config import Config
from botocore.exceptions import WaiterError

BLOCK = 512 * 1024


@functools.cache
def client(service):
    """A client of the sandbox. It does not retry: what a call is answered
    with is what is tested. boto3 reads AWS_ENDPOINT_URL since 1.28 only."""
    return boto3.client(
        service,
        endpoint_url=os.environ["AWS_ENDPOINT_URL"],
        config=Config(retries={"total_max_attempts": 1}),
    )


def unique(name):
    """A name that no other test takes."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def sha256(data):
    """The checksum of a block as EBS direct wants it."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def linear(blocks):
    """The LINEAR checksum of a snapshot: that of its blocks' raw digests."""
    digests = b"".join(hashlib.sha256(blocks[index]).digest() for index in sorted(blocks))
    return base64.b64encode(hashlib.sha256(digests).digest()).decode()


def put(ebs, snapshot, index, data):
    """Writes one block."""
    return ebs.put_snapshot_block(
        SnapshotId=snapshot,
        BlockIndex=index,
        BlockData=data,
        DataLength=len(data),
        Checksum=sha256(data),
        ChecksumAlgorithm="SHA256",
    )


def write_snapshot(blocks, **options):
    """Makes a snapshot of 1 GiB with these blocks and waits for its completion."""
    ebs = client("ebs")
    snapshot = ebs.start_snapshot(VolumeSize=1, **options)["SnapshotId"]
    for index, data in blocks.items():
        put(ebs, snapshot, index, data)
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=len(blocks))
    wait("ec2", "snapshot_completed", SnapshotIds=[snapshot])
    return snapshot


def wait(service, waiter, **what):
    """One of botocore's own waiters, at the pace of the sandbox's scaled time.
    EC2 shows what is new a moment later, which most waiters take for a failure."""

    def waited():
        try:
            client(service).get_waiter(waiter).wait(WaiterConfig={"Delay": 0.1, "MaxAttempts": 300}, **what)
        except WaiterError as error:
            if ".NotFound" not in str(error):
                raise
            return False
        return True

    until(waited)


def until(condition):
    """Waits for what botocore has no waiter for; gives the condition's value."""
    patience = time.monotonic() + 60
    while time.monotonic() < patience:
        if value := condition():
            return value
        time.sleep(0.1)
    raise TimeoutError("a minute has passed")


@functools.cache
def root_snapshot():
    """A snapshot for images to boot from."""
    return write_snapshot({0: b"\x01" * BLOCK})


def register(**options):
    """Registers an AMI that has the root snapshot for its only device."""
    return client("ec2").register_image(
        Name=unique("boto3"),
        Architecture="x86_64",
        VirtualizationType="hvm",
        EnaSupport=True,
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": root_snapshot()}}],
        **options,
    )["ImageId"]


@functools.cache
def image():
    """An AMI of which instances can be run."""
    ami = register()
    wait("ec2", "image_available", ImageIds=[ami])
    return ami
