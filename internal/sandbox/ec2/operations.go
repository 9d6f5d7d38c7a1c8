package ec2

import (
	"context"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// API lists the operations.
func (s *Service) API() *api.Service {
	to := api.NewService("ec2", wire.EC2())

	// Images.
	add(s, to, "CopyImage", (*region).copyImage)
	add(s, to, "CreateImage", (*region).createImage)
	add(s, to, "DeregisterImage", (*region).deregisterImage)
	add(s, to, "DescribeImageAttribute", (*region).describeImageAttribute)
	add(s, to, "DescribeImages", (*region).describeImages)
	add(s, to, "DisableImageDeprecation", (*region).disableImageDeprecation)
	add(s, to, "EnableImageDeprecation", (*region).enableImageDeprecation)
	add(s, to, "ModifyImageAttribute", (*region).modifyImageAttribute)
	add(s, to, "RegisterImage", (*region).registerImage)
	add(s, to, "ResetImageAttribute", (*region).resetImageAttribute)

	// Snapshots and volumes.
	add(s, to, "AttachVolume", (*region).attachVolume)
	add(s, to, "CopySnapshot", (*region).copySnapshot)
	add(s, to, "CreateSnapshot", (*region).createSnapshot)
	add(s, to, "CreateSnapshots", (*region).createSnapshots)
	add(s, to, "CreateVolume", (*region).createVolume)
	add(s, to, "DeleteSnapshot", (*region).deleteSnapshot)
	add(s, to, "DeleteVolume", (*region).deleteVolume)
	add(s, to, "DescribeSnapshotAttribute", (*region).describeSnapshotAttribute)
	add(s, to, "DescribeSnapshots", (*region).describeSnapshots)
	add(s, to, "DescribeVolumes", (*region).describeVolumes)
	add(s, to, "DetachVolume", (*region).detachVolume)
	add(s, to, "DisableEbsEncryptionByDefault", (*region).disableEncryptionByDefault)
	add(s, to, "EnableEbsEncryptionByDefault", (*region).enableEncryptionByDefault)
	add(s, to, "GetEbsEncryptionByDefault", (*region).getEncryptionByDefault)
	add(s, to, "ModifySnapshotAttribute", (*region).modifySnapshotAttribute)

	// Instances.
	add(s, to, "CreateFleet", (*region).createFleet)
	add(s, to, "DescribeInstanceStatus", (*region).describeInstanceStatus)
	add(s, to, "DescribeInstanceTypeOfferings", (*region).describeInstanceTypeOfferings)
	add(s, to, "DescribeInstanceTypes", (*region).describeInstanceTypes)
	add(s, to, "DescribeInstances", (*region).describeInstances)
	add(s, to, "GetConsoleOutput", (*region).getConsoleOutput)
	add(s, to, "GetInstanceUefiData", (*region).getInstanceUefiData)
	add(s, to, "ModifyInstanceAttribute", (*region).modifyInstanceAttribute)
	add(s, to, "ModifyInstanceMetadataOptions", (*region).modifyInstanceMetadataOptions)
	add(s, to, "RebootInstances", (*region).rebootInstances)
	add(s, to, "RunInstances", (*region).runInstances)
	add(s, to, "StartInstances", (*region).startInstances)
	add(s, to, "StopInstances", (*region).stopInstances)
	add(s, to, "TerminateInstances", (*region).terminateInstances)

	// Launch templates.
	add(s, to, "CreateLaunchTemplate", (*region).createLaunchTemplate)
	add(s, to, "CreateLaunchTemplateVersion", (*region).createLaunchTemplateVersion)
	add(s, to, "DeleteLaunchTemplate", (*region).deleteLaunchTemplate)
	add(s, to, "DeleteLaunchTemplateVersions", (*region).deleteLaunchTemplateVersions)
	add(s, to, "DescribeLaunchTemplateVersions", (*region).describeLaunchTemplateVersions)
	add(s, to, "DescribeLaunchTemplates", (*region).describeLaunchTemplates)
	add(s, to, "ModifyLaunchTemplate", (*region).modifyLaunchTemplate)

	// Tags.
	add(s, to, "CreateTags", (*region).createTags)
	add(s, to, "DeleteTags", (*region).deleteTags)
	add(s, to, "DescribeTags", (*region).describeTags)

	// The network, the account and key pairs.
	add(s, to, "AuthorizeSecurityGroupEgress", (*region).authorizeEgress)
	add(s, to, "AuthorizeSecurityGroupIngress", (*region).authorizeIngress)
	add(s, to, "CreateKeyPair", (*region).createKeyPair)
	add(s, to, "CreateSecurityGroup", (*region).createSecurityGroup)
	add(s, to, "DeleteKeyPair", (*region).deleteKeyPair)
	add(s, to, "DeleteSecurityGroup", (*region).deleteSecurityGroup)
	add(s, to, "DescribeAccountAttributes", (*region).describeAccountAttributes)
	add(s, to, "DescribeAvailabilityZones", (*region).describeAvailabilityZones)
	add(s, to, "DescribeKeyPairs", (*region).describeKeyPairs)
	add(s, to, "DescribeRegions", (*region).describeRegions)
	add(s, to, "DescribeSecurityGroupRules", (*region).describeSecurityGroupRules)
	add(s, to, "DescribeSecurityGroups", (*region).describeSecurityGroups)
	add(s, to, "DescribeSubnets", (*region).describeSubnets)
	add(s, to, "DescribeVpcs", (*region).describeVpcs)
	add(s, to, "ImportKeyPair", (*region).importKeyPair)
	add(s, to, "RevokeSecurityGroupEgress", (*region).revokeEgress)
	add(s, to, "RevokeSecurityGroupIngress", (*region).revokeIngress)
	return to
}

// add registers an operation, which is carried out in the region of the call.
func add[In, Out any](s *Service, to *api.Service, name string, operation func(*region, *api.Call, *In) (*Out, error)) {
	api.Register(to, name, func(_ context.Context, c *api.Call, in *In) (*Out, error) {
		r := s.in(c.Region)
		r.visibleAt = c.VisibleAt()
		return operation(r, c, in)
	})
}
