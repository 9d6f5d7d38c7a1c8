"""boto3 writes snapshots by EBS direct, and reads them back."""

import unittest

from botocore.exceptions import ClientError

from sandbox import BLOCK, client, linear, put, sha256, unique, wait, write_snapshot

EBS = client("ebs")
EC2 = client("ec2")


class Direct(unittest.TestCase):
    def refused(self, error, reason, call, **parameters):
        """The call must fail with one of the service's modelled exceptions."""
        with self.assertRaises(error) as caught:
            call(**parameters)
        self.assertEqual(reason, caught.exception.response.get("Reason"))

    def test_a_snapshot_is_read_back_as_it_was_written(self):
        # More blocks than a page holds; two contents, and a block that is written twice.
        blocks = {index: bytes([index % 2 + 1]) * BLOCK for index in range(0, 2048, 20)}
        snapshot = EBS.start_snapshot(VolumeSize=1, Description="boto3", Tags=[{"Key": "by", "Value": "boto3"}])
        self.assertEqual(("pending", BLOCK, 1), (snapshot["Status"], snapshot["BlockSize"], snapshot["VolumeSize"]))
        snapshot = snapshot["SnapshotId"]
        put(EBS, snapshot, 0, b"\xff" * BLOCK)
        for index, data in blocks.items():
            self.assertEqual(sha256(data), put(EBS, snapshot, index, data)["Checksum"])
        done = EBS.complete_snapshot(
            SnapshotId=snapshot,
            ChangedBlocksCount=len(blocks),
            Checksum=linear(blocks),
            ChecksumAlgorithm="SHA256",
            ChecksumAggregationMethod="LINEAR",
        )
        self.assertEqual("pending", done["Status"])
        wait("ec2", "snapshot_completed", SnapshotIds=[snapshot])

        listed, pages, token = {}, 0, {}
        while True:
            page = EBS.list_snapshot_blocks(SnapshotId=snapshot, MaxResults=100, **token)
            listed |= {block["BlockIndex"]: block["BlockToken"] for block in page["Blocks"]}
            pages += 1
            if "NextToken" not in page:
                break
            token = {"NextToken": page["NextToken"]}
        self.assertEqual((sorted(blocks), 2), (sorted(listed), pages))
        for index in (0, 20, 2040):
            block = EBS.get_snapshot_block(SnapshotId=snapshot, BlockIndex=index, BlockToken=listed[index])
            data = block["BlockData"].read()
            self.assertEqual((BLOCK, "SHA256", sha256(data)), (block["DataLength"], block["ChecksumAlgorithm"], block["Checksum"]))
            self.assertEqual(blocks[index], data)

        described = EC2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
        self.assertEqual(("completed", "100%", "boto3"), (described["State"], described["Progress"], described["Description"]))
        self.assertEqual([{"Key": "by", "Value": "boto3"}], described["Tags"])

    def test_changed_blocks_are_those_that_differ_from_the_parent(self):
        parent = write_snapshot({0: b"\x01" * BLOCK, 1: b"\x02" * BLOCK})
        child = write_snapshot({1: b"\x03" * BLOCK, 9: b"\x04" * BLOCK}, ParentSnapshotId=parent)
        changed = EBS.list_changed_blocks(FirstSnapshotId=parent, SecondSnapshotId=child)["ChangedBlocks"]
        self.assertEqual([1, 9], [block["BlockIndex"] for block in changed])
        self.assertIn("FirstBlockToken", changed[0])
        self.assertNotIn("FirstBlockToken", changed[1])
        block = EBS.get_snapshot_block(SnapshotId=child, BlockIndex=9, BlockToken=changed[1]["SecondBlockToken"])
        self.assertEqual(b"\x04" * BLOCK, block["BlockData"].read())
        # What the child did not write is the parent's.
        self.assertEqual([0, 1, 9], [b["BlockIndex"] for b in EBS.list_snapshot_blocks(SnapshotId=child)["Blocks"]])

    def test_what_is_wrong_is_one_of_botocores_exceptions(self):
        errors = EBS.exceptions
        data = b"\x05" * BLOCK
        whole = write_snapshot({3: data})
        other = write_snapshot({3: data})
        token = EBS.list_snapshot_blocks(SnapshotId=whole)["Blocks"][0]["BlockToken"]
        missing = "snap-0123456789abcdef0"

        self.refused(errors.ResourceNotFoundException, "SNAPSHOT_NOT_FOUND", EBS.list_snapshot_blocks, SnapshotId=missing)
        self.refused(errors.ResourceNotFoundException, "SNAPSHOT_NOT_FOUND", EBS.start_snapshot, VolumeSize=1, ParentSnapshotId=missing)
        self.refused(errors.ValidationException, "INVALID_BLOCK_TOKEN", EBS.get_snapshot_block, SnapshotId=whole, BlockIndex=3, BlockToken="nonsense")
        self.refused(errors.ValidationException, "INVALID_BLOCK_TOKEN", EBS.get_snapshot_block, SnapshotId=other, BlockIndex=3, BlockToken=token)
        self.refused(errors.ValidationException, "INVALID_PAGE_TOKEN", EBS.list_snapshot_blocks, SnapshotId=whole, NextToken="nonsense")
        self.refused(errors.ValidationException, "UNRELATED_SNAPSHOTS", EBS.list_changed_blocks, FirstSnapshotId=whole, SecondSnapshotId=other)
        self.refused(errors.ValidationException, "INVALID_PARAMETER_VALUE", EBS.start_snapshot, VolumeSize=1, ParentSnapshotId=whole, Encrypted=True)

        token = unique("token")
        first = EBS.start_snapshot(VolumeSize=1, ClientToken=token)
        self.assertEqual(first["SnapshotId"], EBS.start_snapshot(VolumeSize=1, ClientToken=token)["SnapshotId"])
        with self.assertRaises(errors.ConflictException):
            EBS.start_snapshot(VolumeSize=2, ClientToken=token)

        pending = first["SnapshotId"]
        wrong = dict(SnapshotId=pending, BlockIndex=0, BlockData=data, DataLength=BLOCK, ChecksumAlgorithm="SHA256")
        with self.assertRaises(errors.ValidationException):
            EBS.put_snapshot_block(**wrong, Checksum=sha256(b"other"))
        with self.assertRaises(errors.ValidationException):
            put(EBS, pending, 2048, data)  # the first one after the end of 1 GiB
        with self.assertRaises(errors.ValidationException):
            put(EBS, pending, 0, data[:-1])
        with self.assertRaises(errors.ValidationException):
            put(EBS, whole, 0, data)  # complete already

    def test_ec2_says_which_snapshot_is_missing(self):
        with self.assertRaises(ClientError) as caught:
            EC2.describe_snapshots(SnapshotIds=["snap-0123456789abcdef0"])
        self.assertEqual("InvalidSnapshot.NotFound", caught.exception.response["Error"]["Code"])
        self.assertEqual(400, caught.exception.response["ResponseMetadata"]["HTTPStatusCode"])
        self.assertTrue(caught.exception.response["ResponseMetadata"]["RequestId"])


if __name__ == "__main__":
    unittest.main()
