"""boto3 makes a group, refreshes it, cancels a refresh and takes a release back."""

import unittest

from sandbox import client, image, unique, until

EC2 = client("ec2")
SCALING = client("autoscaling")
ERRORS = SCALING.exceptions


class Group:
    """A group of simulated instances and its launch template, whose version 1
    it runs; version 2 is the next release."""

    def __init__(self, size=2):
        self.name = unique("group")
        created = EC2.create_launch_template(LaunchTemplateName=self.name, LaunchTemplateData={"ImageId": image(), "InstanceType": "t3.micro"})
        self.template = created["LaunchTemplate"]["LaunchTemplateId"]
        EC2.create_launch_template_version(LaunchTemplateId=self.template, SourceVersion="1", LaunchTemplateData={"InstanceType": "t3.small"})
        SCALING.create_auto_scaling_group(
            AutoScalingGroupName=self.name,
            LaunchTemplate=self.version("1"),
            MinSize=size,
            MaxSize=2 * size,
            DesiredCapacity=size,
            AvailabilityZones=["eu-west-1a", "eu-west-1b"],
            DefaultInstanceWarmup=10,
            Tags=[{"Key": "Name", "Value": self.name, "PropagateAtLaunch": True}],
        )
        until(lambda: self.in_service() == size)

    def version(self, number):
        return {"LaunchTemplateId": self.template, "Version": number}

    def describe(self):
        return SCALING.describe_auto_scaling_groups(AutoScalingGroupNames=[self.name])["AutoScalingGroups"][0]

    def in_service(self):
        return sum(i["LifecycleState"] == "InService" for i in self.describe()["Instances"])

    def versions(self):
        return [i["LaunchTemplate"]["Version"] for i in self.describe()["Instances"] if i["LifecycleState"] == "InService"]

    def refresh(self, to="2", **preferences):
        return SCALING.start_instance_refresh(
            AutoScalingGroupName=self.name,
            DesiredConfiguration={"LaunchTemplate": self.version(to)},
            Preferences={"MinHealthyPercentage": 50, **preferences},
        )["InstanceRefreshId"]

    def status(self, refresh):
        found = SCALING.describe_instance_refreshes(AutoScalingGroupName=self.name, InstanceRefreshIds=[refresh])["InstanceRefreshes"]
        return found[0]["Status"]

    def ends(self, refresh, status):
        """Waits until the refresh has this status."""
        seen = []

        def reached():
            seen.append(self.status(refresh))
            return seen[-1] == status

        try:
            until(reached)
        except TimeoutError as error:
            raise AssertionError(f"{refresh} is {seen[-1]}, not {status}") from error

    def delete(self):
        SCALING.delete_auto_scaling_group(AutoScalingGroupName=self.name, ForceDelete=True)


class Groups(unittest.TestCase):
    def group(self, size=2):
        group = Group(size)
        self.addCleanup(group.delete)
        return group

    def test_a_refresh_replaces_every_instance(self):
        group = self.group()
        before = {i["InstanceId"] for i in group.describe()["Instances"]}
        refresh = group.refresh()
        self.assertIn(group.status(refresh), ("Pending", "InProgress"))
        with self.assertRaises(ERRORS.InstanceRefreshInProgressFault):
            group.refresh()
        group.ends(refresh, "Successful")
        self.assertFalse(before & {i["InstanceId"] for i in group.describe()["Instances"]})
        self.assertEqual((["2", "2"], "2"), (group.versions(), group.describe()["LaunchTemplate"]["Version"]))
        done = SCALING.describe_instance_refreshes(AutoScalingGroupName=group.name)["InstanceRefreshes"][0]
        self.assertEqual((100, 0, 50), (done["PercentageComplete"], done["InstancesToUpdate"], done["Preferences"]["MinHealthyPercentage"]))
        launched = SCALING.get_paginator("describe_scaling_activities").paginate(AutoScalingGroupName=group.name, PaginationConfig={"PageSize": 2})
        activities = [a for page in launched for a in page["Activities"]]
        self.assertGreaterEqual(sum(a["Description"].startswith("Launching a new EC2 instance") for a in activities), 4)
        tagged = EC2.describe_instances(Filters=[{"Name": "tag:aws:autoscaling:groupName", "Values": [group.name]}, {"Name": "instance-state-name", "Values": ["running"]}])
        types = {i["InstanceType"] for r in tagged["Reservations"] for i in r["Instances"]}
        self.assertEqual({"t3.small"}, types)

    def test_a_refresh_is_cancelled(self):
        group = self.group()
        refresh = group.refresh(InstanceWarmup=3600)
        until(lambda: group.status(refresh) == "InProgress")
        cancelled = SCALING.cancel_instance_refresh(AutoScalingGroupName=group.name)
        self.assertEqual(refresh, cancelled["InstanceRefreshId"])
        group.ends(refresh, "Cancelled")
        self.assertEqual("1", group.describe()["LaunchTemplate"]["Version"])
        with self.assertRaises(ERRORS.ActiveInstanceRefreshNotFoundFault):
            SCALING.cancel_instance_refresh(AutoScalingGroupName=group.name)

    def test_a_release_is_rolled_back(self):
        # This botocore is older than RollbackInstanceRefresh: a release is taken
        # back as it was then, by cancelling and a refresh towards the former.
        group = self.group()
        refresh = group.refresh(CheckpointPercentages=[50, 100], CheckpointDelay=3600)
        until(lambda: "2" in group.versions())
        waiting = SCALING.describe_instance_refreshes(AutoScalingGroupName=group.name, InstanceRefreshIds=[refresh])["InstanceRefreshes"][0]
        self.assertEqual([50, 100], waiting["Preferences"]["CheckpointPercentages"])
        SCALING.cancel_instance_refresh(AutoScalingGroupName=group.name)
        group.ends(refresh, "Cancelled")
        self.assertEqual(["1", "2"], sorted(group.versions()))
        untouched = [i["InstanceId"] for i in group.describe()["Instances"] if i["LaunchTemplate"]["Version"] == "1"]
        back = group.refresh(to="1", SkipMatching=True)
        group.ends(back, "Successful")
        self.assertEqual((["1", "1"], "1"), (group.versions(), group.describe()["LaunchTemplate"]["Version"]))
        self.assertLessEqual(set(untouched), {i["InstanceId"] for i in group.describe()["Instances"]})


if __name__ == "__main__":
    unittest.main()
