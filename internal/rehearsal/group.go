package rehearsal

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	autoscalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// Group is an Auto Scaling group behind an Application Load Balancer.
type Group struct {
	Name, LaunchTemplateID, TargetGroupARN, ListenerARN string

	// URL is that of the load balancer's listener.
	URL string
}

// GroupSpec says what NewGroup makes.
type GroupSpec struct {
	Name    string
	ImageID string
	Size    int32

	// Port is where the instances' service listens; its /health is the
	// target group's health check.
	Port int32

	// Warmup is the group's default instance warm-up.
	Warmup time.Duration
}

// listenerPort is where the load balancer listens.
const listenerPort = 80

// NewGroup makes a launch template, a load balancer with a listener and a
// target group, and an Auto Scaling group of spec.Size instances in the
// default VPC's subnets, as an operator would by hand.
func (b *Sandbox) NewGroup(ctx context.Context, spec GroupSpec) (Group, error) {
	group := Group{Name: spec.Name}
	config := b.Config()

	compute := ec2.NewFromConfig(config)
	subnets, err := compute.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{
		Filters: []ec2types.Filter{{Name: aws.String("default-for-az"), Values: []string{"true"}}},
	})
	if err != nil {
		return group, err
	}
	var subnetIDs []string
	for _, subnet := range subnets.Subnets {
		subnetIDs = append(subnetIDs, *subnet.SubnetId)
	}
	vpc := subnets.Subnets[0].VpcId

	front, back, err := guard(ctx, compute, spec, vpc)
	if err != nil {
		return group, err
	}
	template, err := compute.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: aws.String(spec.Name),
		LaunchTemplateData: &ec2types.RequestLaunchTemplateData{
			ImageId:      aws.String(spec.ImageID),
			InstanceType: ec2types.InstanceTypeT3Small,

			SecurityGroupIds: []string{back},
			TagSpecifications: []ec2types.LaunchTemplateTagSpecificationRequest{{
				ResourceType: ec2types.ResourceTypeInstance,
				Tags:         []ec2types.Tag{{Key: aws.String("Name"), Value: aws.String(spec.Name)}},
			}},
		},
	})
	if err != nil {
		return group, err
	}
	group.LaunchTemplateID = *template.LaunchTemplate.LaunchTemplateId

	if err := group.balance(ctx, elb.NewFromConfig(config), spec, vpc, subnetIDs, front); err != nil {
		return group, err
	}

	scaling := autoscaling.NewFromConfig(config)
	_, err = scaling.CreateAutoScalingGroup(ctx, &autoscaling.CreateAutoScalingGroupInput{
		AutoScalingGroupName: aws.String(spec.Name),
		LaunchTemplate: &autoscalingtypes.LaunchTemplateSpecification{
			LaunchTemplateId: aws.String(group.LaunchTemplateID),
			Version:          aws.String("1"),
		},
		MinSize:                aws.Int32(spec.Size),
		MaxSize:                aws.Int32(2 * spec.Size),
		DesiredCapacity:        aws.Int32(spec.Size),
		VPCZoneIdentifier:      aws.String(strings.Join(subnetIDs, ",")),
		TargetGroupARNs:        []string{group.TargetGroupARN},
		HealthCheckType:        aws.String("ELB"),
		HealthCheckGracePeriod: aws.Int32(60),
		DefaultInstanceWarmup:  aws.Int32(int32(spec.Warmup / time.Second)),
	})
	return group, err
}

// guard makes the security group of the load balancer, which lets everybody in to its listener, and that of the
// instances, which lets the load balancer in to their service.
func guard(ctx context.Context, compute *ec2.Client, spec GroupSpec, vpc *string) (front, back string, err error) {
	open := func(name string, port int32, permission ec2types.IpPermission) (string, error) {
		made, err := compute.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: &name, Description: &name, VpcId: vpc})
		if err != nil {
			return "", err
		}
		permission.IpProtocol, permission.FromPort, permission.ToPort = aws.String("tcp"), &port, &port
		_, err = compute.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
			GroupId: made.GroupId, IpPermissions: []ec2types.IpPermission{permission},
		})
		return *made.GroupId, err
	}
	front, err = open(spec.Name+" front", listenerPort, ec2types.IpPermission{IpRanges: []ec2types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}})
	if err != nil {
		return "", "", err
	}
	back, err = open(spec.Name+" back", spec.Port, ec2types.IpPermission{UserIdGroupPairs: []ec2types.UserIdGroupPair{{GroupId: &front}}})
	return front, back, err
}

// balance makes the load balancer, its target group and its listener.
func (g *Group) balance(ctx context.Context, balancing *elb.Client, spec GroupSpec, vpc *string, subnets []string, securityGroup string) error {
	balancer, err := balancing.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{
		Name: aws.String(spec.Name), Subnets: subnets, SecurityGroups: []string{securityGroup},
	})
	if err != nil {
		return err
	}
	targets, err := balancing.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{
		Name:                       aws.String(fmt.Sprintf("%s-%d", spec.Name, spec.Port)),
		Protocol:                   elbtypes.ProtocolEnumHttp,
		Port:                       aws.Int32(spec.Port),
		VpcId:                      vpc,
		HealthCheckPath:            aws.String("/health"),
		HealthCheckIntervalSeconds: aws.Int32(5),
		HealthCheckTimeoutSeconds:  aws.Int32(2),
		HealthyThresholdCount:      aws.Int32(2),
		UnhealthyThresholdCount:    aws.Int32(2),
	})
	if err != nil {
		return err
	}
	g.TargetGroupARN = *targets.TargetGroups[0].TargetGroupArn
	_, err = balancing.ModifyTargetGroupAttributes(ctx, &elb.ModifyTargetGroupAttributesInput{
		TargetGroupArn: aws.String(g.TargetGroupARN),
		Attributes: []elbtypes.TargetGroupAttribute{{
			Key: aws.String("deregistration_delay.timeout_seconds"), Value: aws.String("10"),
		}},
	})
	if err != nil {
		return err
	}
	listener, err := balancing.CreateListener(ctx, &elb.CreateListenerInput{
		LoadBalancerArn: balancer.LoadBalancers[0].LoadBalancerArn,
		Protocol:        elbtypes.ProtocolEnumHttp,
		Port:            aws.Int32(listenerPort),
		DefaultActions: []elbtypes.Action{{
			Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: aws.String(g.TargetGroupARN),
		}},
	})
	if err != nil {
		return err
	}
	g.ListenerARN = *listener.Listeners[0].ListenerArn
	g.URL = fmt.Sprintf("http://%s/", *balancer.LoadBalancers[0].DNSName)
	return nil
}

// WaitHealthy waits until as many targets as the group has instances are
// healthy behind the load balancer.
func (b *Sandbox) WaitHealthy(ctx context.Context, group Group, size int) error {
	balancing := elb.NewFromConfig(b.Config())
	var last []string
	for {
		health, err := balancing.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &group.TargetGroupARN})
		if ctx.Err() != nil {
			return fmt.Errorf("wait until %d targets of group %q are healthy: %w; last seen: %v", size, group.Name, ctx.Err(), last)
		}
		if err != nil {
			return err
		}
		healthy := 0
		last = last[:0]
		for _, target := range health.TargetHealthDescriptions {
			last = append(last, fmt.Sprintf("%s %s %s", *target.Target.Id, target.TargetHealth.State, target.TargetHealth.Reason))
			if target.TargetHealth.State == elbtypes.TargetHealthStateEnumHealthy {
				healthy++
			}
		}
		if healthy == size && len(last) == size {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// RunningImages counts the group's instances in service by their image.
func (b *Sandbox) RunningImages(ctx context.Context, group string) (map[string]int, error) {
	scaling := autoscaling.NewFromConfig(b.Config())
	described, err := scaling.DescribeAutoScalingGroups(ctx, &autoscaling.DescribeAutoScalingGroupsInput{
		AutoScalingGroupNames: []string{group},
	})
	if err != nil || len(described.AutoScalingGroups) == 0 {
		return nil, err
	}
	var ids []string
	for _, instance := range described.AutoScalingGroups[0].Instances {
		if instance.LifecycleState == autoscalingtypes.LifecycleStateInService {
			ids = append(ids, *instance.InstanceId)
		}
	}
	images := map[string]int{}
	if len(ids) == 0 {
		return images, nil
	}
	instances, err := ec2.NewFromConfig(b.Config()).DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: ids})
	if err != nil {
		return nil, err
	}
	for _, reservation := range instances.Reservations {
		for _, instance := range reservation.Instances {
			images[*instance.ImageId]++
		}
	}
	return images, nil
}
