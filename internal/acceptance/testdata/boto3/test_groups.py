"""boto3 makes a group, refreshes it, cancels a refresh and rolls one back."""

import unittest

from botocore.exceptions import ClientError

from sandbox import client, image, unique, until, wait

EC2 = client("ec2")
SCALING = client("autoscaling")
ALARMS = client("cloudwatch")
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

    def refresh(self, **preferences):
        return SCALING.start_instance_refresh(
            AutoScalingGroupName=self.name,
            DesiredConfiguration={"LaunchTemplate": self.version("2")},
            Preferences={"MinHealthyPercentage": 50, **preferences},
        )["InstanceRefreshId"]

    def describe_refresh(self, refresh):
        return SCALING.describe_instance_refreshes(AutoScalingGroupName=self.name, InstanceRefreshIds=[refresh])["InstanceRefreshes"][0]

    def status(self, refresh):
        return self.describe_refresh(refresh)["Status"]

    def ends(self, refresh, status):
        """Waits until the refresh has this status."""
        try:
            until(lambda: self.status(refresh) == status)
        except TimeoutError as error:
            raise AssertionError(f"not {status}: {self.describe_refresh(refresh)}") from error

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

    def test_a_refresh_is_rolled_back(self):
        group = self.group()
        refresh = group.refresh(CheckpointPercentages=[50, 100], CheckpointDelay=3600)
        until(lambda: "2" in group.versions())
        self.assertEqual(refresh, SCALING.rollback_instance_refresh(AutoScalingGroupName=group.name)["InstanceRefreshId"])
        group.ends(refresh, "RollbackSuccessful")
        self.assertEqual((["1", "1"], "1"), (group.versions(), group.describe()["LaunchTemplate"]["Version"]))
        self.assertTrue(group.describe_refresh(refresh)["RollbackDetails"]["RollbackReason"])
        with self.assertRaises(ERRORS.ActiveInstanceRefreshNotFoundFault):
            SCALING.rollback_instance_refresh(AutoScalingGroupName=group.name)

    def test_a_refresh_without_a_desired_configuration_is_irreversible(self):
        group = self.group(size=1)
        SCALING.start_instance_refresh(AutoScalingGroupName=group.name, Preferences={"InstanceWarmup": 3600})
        with self.assertRaises(ERRORS.IrreversibleInstanceRefreshFault):
            SCALING.rollback_instance_refresh(AutoScalingGroupName=group.name)

    def test_an_alarm_rolls_a_refresh_back(self):
        group, alarm = self.group(), unique("alarm")
        metric = {"Namespace": "boto3", "MetricName": "errors", "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1}
        ALARMS.put_metric_alarm(AlarmName=alarm, **metric, Threshold=0, ComparisonOperator="GreaterThanThreshold")
        wait("cloudwatch", "alarm_exists", AlarmNames=[alarm])
        watched = {"AutoRollback": True, "AlarmSpecification": {"Alarms": [alarm]}, "CheckpointPercentages": [50, 100], "CheckpointDelay": 3600}
        with self.assertRaises(ClientError) as caught:
            group.refresh(**watched)  # the alarm has no data yet
        self.assertIn(alarm, str(caught.exception))
        ALARMS.set_alarm_state(AlarmName=alarm, StateValue="OK", StateReason="boto3 says so")
        refresh = group.refresh(**watched)
        until(lambda: group.status(refresh) == "InProgress")
        ALARMS.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="boto3 says so")
        group.ends(refresh, "RollbackSuccessful")
        self.assertEqual(["1", "1"], group.versions())
        self.assertIn(alarm, group.describe_refresh(refresh)["RollbackDetails"]["RollbackReason"])


if __name__ == "__main__":
    unittest.main()
