"""boto3 pages through what was made, and filters it."""

import datetime
import unittest

from botocore.exceptions import ClientError

from sandbox import BLOCK, client, image, register, root_snapshot, unique, until, wait, write_snapshot

COUNT = 12  # of each kind; pages of five are three


class Reading(unittest.TestCase):
    def paged(self, service, operation, key, size, **what):
        """All that the paginator gives of key; there must be several pages,
        none longer than asked. EC2 shows what is new a moment later."""

        def every():
            pages = [page[key] for page in client(service).get_paginator(operation).paginate(PaginationConfig={"PageSize": size}, **what)]
            return pages if sum(map(len, pages)) >= COUNT else None

        pages = until(every)
        self.assertGreater(len(pages), 1)
        self.assertLessEqual(max(map(len, pages)), size)
        return [item for page in pages for item in page]

    def test_images(self):
        batch = unique("batch")
        made = sorted(register(Description=f"{batch} {n % 2}") for n in range(COUNT))
        ec2 = client("ec2")
        wait("ec2", "image_available", ImageIds=made)
        ec2.create_tags(Resources=made, Tags=[{"Key": "batch", "Value": batch}])
        mine = {"Name": "tag:batch", "Values": [batch]}
        # This botocore knows no pages of images.
        every = until(lambda: (found := ec2.describe_images(Filters=[mine])["Images"]) and len(found) == COUNT and found)
        self.assertEqual(made, sorted(i["ImageId"] for i in every))

        even = ec2.describe_images(Filters=[mine, {"Name": "description", "Values": [f"{batch} 0", "nothing"]}])["Images"]
        self.assertEqual(COUNT // 2, len(even))
        self.assertEqual([], ec2.describe_images(Owners=["amazon"], Filters=[mine])["Images"])
        one = every[0]
        self.assertEqual(
            ("x86_64", "hvm", "ebs", "/dev/xvda", "available", False),
            tuple(one[k] for k in ("Architecture", "VirtualizationType", "RootDeviceType", "RootDeviceName", "State", "Public")),
        )
        self.assertEqual(root_snapshot(), one["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"])
        for wanted in ([one["ImageId"]], ["ami-*"]):
            found = ec2.describe_images(Filters=[mine, {"Name": "image-id", "Values": wanted}])["Images"]
            self.assertEqual(COUNT if "*" in wanted[0] else 1, len(found))
        with self.assertRaises(ClientError) as caught:
            ec2.describe_images(ImageIds=["ami-0123456789abcdef0"])
        self.assertEqual("InvalidAMIID.NotFound", caught.exception.response["Error"]["Code"])

    def test_snapshots_and_volumes(self):
        ec2 = client("ec2")
        snapshot = write_snapshot({0: b"\x07" * BLOCK})
        batch = unique("batch")

        def tags(kind):
            return [{"ResourceType": kind, "Tags": [{"Key": "batch", "Value": batch}]}]

        mine = {"Name": "tag:batch", "Values": [batch]}
        volumes = sorted(
            ec2.create_volume(SnapshotId=snapshot, AvailabilityZone="eu-west-1" + "ab"[n % 2], VolumeType="gp3", TagSpecifications=tags("volume"))["VolumeId"]
            for n in range(COUNT)
        )
        wait("ec2", "volume_available", VolumeIds=volumes)
        self.assertEqual(volumes, sorted(v["VolumeId"] for v in self.paged("ec2", "describe_volumes", "Volumes", 5, Filters=[mine])))
        volume_pages = ec2.get_paginator("describe_volumes")
        limited = volume_pages.paginate(Filters=[mine], PaginationConfig={"PageSize": 5, "MaxItems": 7}).build_full_result()
        self.assertEqual(7, len(limited["Volumes"]))
        rest = volume_pages.paginate(Filters=[mine], PaginationConfig={"PageSize": 5, "StartingToken": limited["NextToken"]}).build_full_result()
        self.assertEqual(volumes, sorted(v["VolumeId"] for v in limited["Volumes"] + rest["Volumes"]))
        in_a = ec2.describe_volumes(Filters=[mine, {"Name": "availability-zone", "Values": ["eu-west-1a"]}])["Volumes"]
        self.assertEqual(COUNT // 2, len(in_a))

        made = sorted(ec2.create_snapshot(VolumeId=v, TagSpecifications=tags("snapshot"))["SnapshotId"] for v in volumes)
        wait("ec2", "snapshot_completed", SnapshotIds=made)
        every = self.paged("ec2", "describe_snapshots", "Snapshots", 5, OwnerIds=["self"], Filters=[mine])
        self.assertEqual(made, sorted(s["SnapshotId"] for s in every))
        of_one = ec2.describe_snapshots(Filters=[{"Name": "volume-id", "Values": [volumes[0]]}, {"Name": "status", "Values": ["completed"]}])["Snapshots"]
        self.assertEqual([volumes[0]], [s["VolumeId"] for s in of_one])

        for volume in volumes:
            ec2.delete_volume(VolumeId=volume)
        wait("ec2", "volume_deleted", VolumeIds=volumes)

    def test_instances(self):
        ec2, batch = client("ec2"), unique("batch")
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "batch", "Value": batch}]}]
        reservation = ec2.run_instances(ImageId=image(), InstanceType="t3.micro", MinCount=COUNT, MaxCount=COUNT, TagSpecifications=tags)
        made = sorted(i["InstanceId"] for i in reservation["Instances"])
        self.assertEqual({"pending"}, {i["State"]["Name"] for i in reservation["Instances"]})
        mine = {"Name": "tag:batch", "Values": [batch]}
        wait("ec2", "instance_running", InstanceIds=made)
        reservations = [
            page["Reservations"] for page in ec2.get_paginator("describe_instances").paginate(Filters=[mine], PaginationConfig={"PageSize": 5})
        ]
        every = [[i["InstanceId"] for r in page for i in r["Instances"]] for page in reservations]
        self.assertEqual([5, 5, 2], list(map(len, every)))
        self.assertEqual(made, sorted(sum(every, [])))
        ec2.stop_instances(InstanceIds=made[:2])
        wait("ec2", "instance_stopped", InstanceIds=made[:2])
        states = {"Name": "instance-state-name", "Values": ["stopped"]}
        stopped = ec2.describe_instances(Filters=[mine, states])["Reservations"]
        self.assertEqual(made[:2], sorted(i["InstanceId"] for r in stopped for i in r["Instances"]))
        ec2.terminate_instances(InstanceIds=made)
        wait("ec2", "instance_terminated", InstanceIds=made)

    def test_launch_templates(self):
        ec2, prefix = client("ec2"), unique("template")
        for n in range(COUNT):
            ec2.create_launch_template(LaunchTemplateName=f"{prefix}-{n}", LaunchTemplateData={"InstanceType": "t3.micro"})
        for _ in range(COUNT - 1):
            ec2.create_launch_template_version(LaunchTemplateName=f"{prefix}-0", SourceVersion="1", LaunchTemplateData={"InstanceType": "t3.small"})
        name = {"Name": "launch-template-name", "Values": [prefix + "-*"]}
        self.assertEqual(COUNT, len(self.paged("ec2", "describe_launch_templates", "LaunchTemplates", 5, Filters=[name])))
        versions = self.paged("ec2", "describe_launch_template_versions", "LaunchTemplateVersions", 5, LaunchTemplateName=f"{prefix}-0")
        self.assertEqual(sorted(range(1, COUNT + 1)), sorted(v["VersionNumber"] for v in versions))
        newest = ec2.describe_launch_template_versions(LaunchTemplateName=f"{prefix}-0", Versions=["$Latest", "$Default"])["LaunchTemplateVersions"]
        self.assertEqual({COUNT: "t3.small", 1: "t3.micro"}, {v["VersionNumber"]: v["LaunchTemplateData"]["InstanceType"] for v in newest})

    def test_groups_and_target_groups(self):
        scaling, balancing, prefix = client("autoscaling"), client("elbv2"), unique("paged")
        vpc = client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
        template = client("ec2").create_launch_template(LaunchTemplateName=prefix, LaunchTemplateData={"ImageId": image(), "InstanceType": "t3.micro"})
        for n in range(COUNT):
            scaling.create_auto_scaling_group(
                AutoScalingGroupName=f"{prefix}-{n}",
                MinSize=0,
                MaxSize=1,
                AvailabilityZones=["eu-west-1a"],
                LaunchTemplate={"LaunchTemplateId": template["LaunchTemplate"]["LaunchTemplateId"], "Version": "1"},
                Tags=[{"Key": "batch", "Value": prefix, "PropagateAtLaunch": False}],
            )
            balancing.create_target_group(Name=f"{prefix}-{n}", Protocol="HTTP", Port=80, VpcId=vpc)
        names = {f"{prefix}-{n}" for n in range(COUNT)}
        mine = [{"Name": "tag:batch", "Values": [prefix]}]
        groups = self.paged("autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups", 5, Filters=mine)
        self.assertEqual(names, {g["AutoScalingGroupName"] for g in groups})
        tags = self.paged("autoscaling", "describe_tags", "Tags", 5, Filters=[{"Name": "value", "Values": [prefix]}])
        self.assertEqual(names, {t["ResourceId"] for t in tags})
        targets = self.paged("elbv2", "describe_target_groups", "TargetGroups", 5)
        self.assertLessEqual(names, {t["TargetGroupName"] for t in targets})
        with self.assertRaises(balancing.exceptions.TargetGroupNotFoundException):
            balancing.describe_target_groups(Names=[prefix])

    def test_alarms(self):
        cloudwatch, prefix = client("cloudwatch"), unique("alarm")
        for n in range(COUNT):
            cloudwatch.put_metric_alarm(
                AlarmName=f"{prefix}-{n}",
                Namespace="boto3",
                MetricName="errors",
                Statistic="Sum",
                Period=60,
                EvaluationPeriods=1,
                Threshold=0.5,
                ComparisonOperator="GreaterThanThreshold",
            )
        cloudwatch.set_alarm_state(AlarmName=f"{prefix}-0", StateValue="ALARM", StateReason="boto3 says so")
        every = self.paged("cloudwatch", "describe_alarms", "MetricAlarms", 5, AlarmNamePrefix=prefix)
        self.assertEqual({f"{prefix}-{n}" for n in range(COUNT)}, {a["AlarmName"] for a in every})
        alarmed = cloudwatch.describe_alarms(AlarmNamePrefix=prefix, StateValue="ALARM")["MetricAlarms"]
        self.assertEqual([(f"{prefix}-0", "boto3 says so", 0.5)], [(a["AlarmName"], a["StateReason"], a["Threshold"]) for a in alarmed])
        with self.assertRaises(cloudwatch.exceptions.ResourceNotFound):
            cloudwatch.set_alarm_state(AlarmName=prefix, StateValue="OK", StateReason="boto3 says so")

    def test_parameters(self):
        ssm, path = client("ssm"), "/" + unique("boto3")
        for n in range(COUNT):
            ssm.put_parameter(Name=f"{path}/{n}", Value=str(n), Type="String")
        found = self.paged("ssm", "get_parameters_by_path", "Parameters", 5, Path=path)
        self.assertEqual({f"{path}/{n}": str(n) for n in range(COUNT)}, {p["Name"]: p["Value"] for p in found})
        begins = [{"Key": "Name", "Option": "BeginsWith", "Values": [path]}]
        described = self.paged("ssm", "describe_parameters", "Parameters", 5, ParameterFilters=begins)
        self.assertEqual(COUNT, len(described))
        self.assertIsInstance(described[0]["LastModifiedDate"], datetime.datetime)
        with self.assertRaises(ssm.exceptions.ParameterAlreadyExists):
            ssm.put_parameter(Name=f"{path}/0", Value="other", Type="String")
        with self.assertRaises(ssm.exceptions.ParameterNotFound):
            ssm.get_parameter(Name=f"{path}/none")


if __name__ == "__main__":
    unittest.main()
