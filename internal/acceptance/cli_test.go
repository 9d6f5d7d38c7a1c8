package acceptance

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/rehearsal"
)

// cli is Debian's AWS CLI, for one test. What it prints is read as a script
// reads it: by --query and --output text.
type cli struct {
	*testing.T
	stage *rehearsal.Stage
	box   *rehearsal.Sandbox
}

// try runs the CLI. This one is older than AWS_ENDPOINT_URL.
func (c cli) try(args ...string) (stdout, stderr string, err error) {
	c.Helper()
	argv := append([]string{"/usr/bin/aws", "--endpoint-url", c.box.URL}, args...)
	client := botocore(c.T, c.stage, c.box, argv...)
	var out, errs bytes.Buffer
	client.Stdout, client.Stderr = &out, &errs
	err = client.Run()
	return strings.TrimSpace(out.String()), strings.TrimSpace(errs.String()), err
}

// aws runs a command that must succeed.
func (c cli) aws(args ...string) string {
	c.Helper()
	stdout, stderr, err := c.try(args...)
	if err != nil {
		c.Fatalf("aws %s: %v\n%s", strings.Join(args, " "), err, stderr)
	}
	return stdout
}

// query gives the words that a command prints of what --query selects.
func (c cli) query(query string, args ...string) []string {
	c.Helper()
	return strings.Fields(c.aws(append(args, "--output", "text", "--query", query)...))
}

// one gives the only word of a query.
func (c cli) one(query string, args ...string) string {
	c.Helper()
	words := c.query(query, args...)
	if len(words) != 1 {
		c.Fatalf("aws %s: %s is %q, want one word", strings.Join(args, " "), query, words)
	}
	return words[0]
}

// refused runs a command that must be answered with an error of this code.
func (c cli) refused(code string, args ...string) {
	c.Helper()
	stdout, stderr, err := c.try(args...)
	if err == nil || !strings.Contains(stderr, "An error occurred ("+code+") when calling the ") {
		c.Errorf("aws %s: %v\n%s%s\nwant the error %s", strings.Join(args, " "), err, stdout, stderr, code)
	}
}

// until asks again until a query has the wanted words, for what the CLI has no
// waiter of.
func (c cli) until(want, query string, args ...string) {
	c.Helper()
	patience := time.Now().Add(time.Minute)
	for {
		got := strings.Join(c.query(query, args...), " ")
		if got == want {
			return
		}
		if time.Now().After(patience) {
			c.Fatalf("aws %s: %s is %q, want %q", strings.Join(args, " "), query, got, want)
		}
	}
}

// sorted compares words that come in no order.
func (c cli) sorted(what string, got, want []string) {
	c.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		c.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// TestCLI lets Debian's AWS CLI judge the sandbox.
func TestCLI(t *testing.T) {
	t.Parallel()
	// What the CLI waits for has come about when it asks: it asks again after 15
	// seconds only.
	stage, box := states(t, "instant", "0.02")
	ami, _ := cliImage(cli{t, stage, box}, "cli-image")
	for _, test := range []struct {
		name string
		run  func(c cli, ami string)
	}{
		{"a snapshot is written and read back, and made an image", cliSnapshot},
		{"instances are run, paged through and made an image of", cliInstances},
		{"a group is made, refreshed, and a refresh cancelled or rolled back", cliGroup},
		{"a fleet is launched", cliFleet},
		{"targets are served through a load balancer", cliBalancer},
		{"parameters are written and read", cliParameters},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(cli{t, stage, box}, ami)
		})
	}
}

// cliImage makes an AMI from a snapshot that is written by EBS direct, and
// gives both.
func cliImage(c cli, name string) (ami, snapshot string) {
	c.Helper()
	block := bytes.Repeat([]byte(name), rehearsal.BlockSize/len(name)+1)[:rehearsal.BlockSize]
	file := filepath.Join(c.TempDir(), "block")
	if err := os.WriteFile(file, block, 0o600); err != nil {
		c.Fatal(err)
	}
	digest := sha256.Sum256(block)
	sum := base64.StdEncoding.EncodeToString(digest[:])

	snapshot = c.one("SnapshotId", "ebs", "start-snapshot", "--volume-size", "1", "--tags", "Key=Name,Value="+name)
	for _, index := range []string{"0", "1000"} {
		put := c.one("Checksum", "ebs", "put-snapshot-block", "--snapshot-id", snapshot, "--block-index", index,
			"--block-data", file, "--data-length", fmt.Sprint(rehearsal.BlockSize), "--checksum", sum, "--checksum-algorithm", "SHA256")
		if put != sum {
			c.Errorf("put-snapshot-block gives the checksum %s, want %s", put, sum)
		}
	}
	all := sha256.Sum256(append(digest[:], digest[:]...))
	c.aws("ebs", "complete-snapshot", "--snapshot-id", snapshot, "--changed-blocks-count", "2", "--checksum-algorithm", "SHA256",
		"--checksum-aggregation-method", "LINEAR", "--checksum", base64.StdEncoding.EncodeToString(all[:]))
	c.aws("ec2", "wait", "snapshot-completed", "--snapshot-ids", snapshot)
	ami = c.one("ImageId", "ec2", "register-image", "--name", name, "--architecture", "x86_64", "--virtualization-type", "hvm", "--ena-support",
		"--root-device-name", "/dev/xvda", "--block-device-mappings", "DeviceName=/dev/xvda,Ebs={SnapshotId="+snapshot+"}")
	c.aws("ec2", "wait", "image-available", "--image-ids", ami)
	return ami, snapshot
}

func cliSnapshot(c cli, _ string) {
	const name = "cli-snapshot"
	ami, snapshot := cliImage(c, name)

	blocks := c.query("Blocks[].[BlockIndex,BlockToken]", "ebs", "list-snapshot-blocks", "--snapshot-id", snapshot)
	if len(blocks) != 4 || blocks[0] != "0" || blocks[2] != "1000" {
		c.Fatalf("list-snapshot-blocks gives %q, want the blocks 0 and 1000 with their tokens", blocks)
	}
	file := filepath.Join(c.TempDir(), "read")
	var block struct{ DataLength, Checksum, ChecksumAlgorithm any }
	if err := json.Unmarshal([]byte(c.aws("ebs", "get-snapshot-block", "--snapshot-id", snapshot, "--block-index", "1000", "--block-token", blocks[3], file)), &block); err != nil {
		c.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		c.Fatal(err)
	}
	digest := sha256.Sum256(data)
	if !bytes.HasPrefix(data, []byte(name+name)) || block.Checksum != base64.StdEncoding.EncodeToString(digest[:]) {
		c.Errorf("get-snapshot-block gives %v and %d bytes that begin with %.40q", block, len(data), data)
	}
	c.refused("ResourceNotFoundException", "ebs", "list-snapshot-blocks", "--snapshot-id", "snap-0123456789abcdef0")
	c.refused("ValidationException", "ebs", "get-snapshot-block", "--snapshot-id", snapshot, "--block-index", "1", "--block-token", blocks[1], file)
	c.refused("ValidationException", "ebs", "complete-snapshot", "--snapshot-id", snapshot, "--changed-blocks-count", "2")

	filters := []string{"ec2", "describe-images", "--owners", "self", "--filters", "Name=block-device-mapping.snapshot-id,Values=" + snapshot, "Name=state,Values=available"}
	if found := c.one("Images[].ImageId", filters...); found != ami {
		c.Errorf("describe-images finds %s by its snapshot, want %s", found, ami)
	}
	c.refused("InvalidAMIName.Duplicate", "ec2", "register-image", "--name", name, "--architecture", "x86_64",
		"--root-device-name", "/dev/xvda", "--block-device-mappings", "DeviceName=/dev/xvda,Ebs={SnapshotId="+snapshot+"}")
	c.refused("InvalidSnapshot.InUse", "ec2", "delete-snapshot", "--snapshot-id", snapshot)
	c.refused("InvalidAMIID.Malformed", "ec2", "describe-images", "--image-ids", "hello")

	elsewhere := c.one("ImageId", "ec2", "copy-image", "--region", "us-east-1", "--source-region", rehearsal.Region, "--source-image-id", ami, "--name", name, "--encrypted")
	c.aws("ec2", "wait", "image-available", "--region", "us-east-1", "--image-ids", elsewhere)
	if is := c.one("Images[0].BlockDeviceMappings[0].Ebs.Encrypted", "ec2", "describe-images", "--region", "us-east-1", "--image-ids", elsewhere); is != "True" {
		c.Errorf("the copy's encryption is %s, want True", is)
	}
	c.refused("InvalidAMIID.NotFound", "ec2", "describe-images", "--image-ids", elsewhere)

	c.aws("ec2", "deregister-image", "--image-id", ami)
	c.aws("ec2", "delete-snapshot", "--snapshot-id", snapshot)
	c.refused("InvalidSnapshot.NotFound", "ec2", "describe-snapshots", "--snapshot-ids", snapshot)
}

func cliInstances(c cli, ami string) {
	run := []string{"ec2", "run-instances", "--image-id", ami, "--instance-type", "t3.micro", "--count", "6", "--client-token", "cli-instances",
		"--tag-specifications", "ResourceType=instance,Tags=[{Key=Name,Value=cli}]"}
	ids := c.query("Instances[].InstanceId", run...)
	c.sorted("the same client token", c.query("Instances[].InstanceId", run...), ids)
	c.refused("IdempotentParameterMismatch", append(slices.Clone(run), "--user-data", "other")...)

	c.aws(append([]string{"ec2", "wait", "instance-running", "--instance-ids"}, ids...)...)
	mine := []string{"ec2", "describe-instances", "--filters", "Name=tag:Name,Values=cli", "Name=instance-state-name,Values=running"}
	const every = "Reservations[].Instances[].InstanceId"
	c.sorted("pages of five", c.query(every, append(mine, "--page-size", "5")...), ids)
	var page struct{ NextToken string }
	if err := json.Unmarshal([]byte(c.aws(append(mine, "--max-items", "1", "--page-size", "5")...)), &page); err != nil || page.NextToken == "" {
		c.Errorf("--max-items gives the token %q (%v)", page.NextToken, err)
	}
	c.refused("InvalidParameterValue", append(mine, "--page-size", "4")...)

	first := ids[0]
	volume := c.one("Volumes[].VolumeId", "ec2", "describe-volumes", "--filters", "Name=attachment.instance-id,Values="+first)
	c.aws("ec2", "wait", "volume-in-use", "--volume-ids", volume)
	c.aws("ec2", "wait", "instance-status-ok", "--instance-ids", first)
	c.aws("ec2", "stop-instances", "--instance-ids", first)
	c.aws("ec2", "wait", "instance-stopped", "--instance-ids", first)
	image := c.one("ImageId", "ec2", "create-image", "--instance-id", first, "--name", "cli-created")
	c.aws("ec2", "wait", "image-available", "--image-ids", image)
	c.aws(append([]string{"ec2", "terminate-instances", "--instance-ids"}, ids...)...)
	c.aws(append([]string{"ec2", "wait", "instance-terminated", "--instance-ids"}, ids...)...)
	c.aws("ec2", "wait", "volume-deleted", "--volume-ids", volume)
}

func cliGroup(c cli, ami string) {
	const name = "cli-group"
	template := c.one("LaunchTemplate.LaunchTemplateId", "ec2", "create-launch-template", "--launch-template-name", name,
		"--launch-template-data", `{"ImageId":"`+ami+`","InstanceType":"t3.micro"}`)
	c.aws("ec2", "create-launch-template-version", "--launch-template-id", template, "--source-version", "1",
		"--launch-template-data", `{"InstanceType":"t3.small"}`)
	merged := c.query("LaunchTemplateVersions[].LaunchTemplateData.[ImageId,InstanceType]", "ec2", "describe-launch-template-versions",
		"--launch-template-id", template, "--versions", "$Latest")
	if want := []string{ami, "t3.small"}; !slices.Equal(merged, want) {
		c.Errorf("version 2 has %v, want %v", merged, want)
	}
	c.aws("autoscaling", "create-auto-scaling-group", "--auto-scaling-group-name", name, "--min-size", "2", "--max-size", "4",
		"--launch-template", "LaunchTemplateId="+template+",Version=1", "--availability-zones", rehearsal.Region+"a", rehearsal.Region+"b",
		"--default-instance-warmup", "10", "--tags", "Key=team,Value=cli,PropagateAtLaunch=true")
	group := []string{"autoscaling", "describe-auto-scaling-groups", "--filters", "Name=tag:team,Values=cli"}
	const ready = "AutoScalingGroups[].Instances[?LifecycleState=='InService'][].LaunchTemplate.Version"
	c.until("1 1", ready, group...)

	start := []string{"autoscaling", "start-instance-refresh", "--auto-scaling-group-name", name,
		"--desired-configuration", "LaunchTemplate={LaunchTemplateId=" + template + ",Version=2}", "--preferences"}
	latest := func(field string) []string {
		c.Helper()
		return c.query("InstanceRefreshes[0]."+field, "autoscaling", "describe-instance-refreshes", "--auto-scaling-group-name", name)
	}
	id := c.one("InstanceRefreshId", append(start, "MinHealthyPercentage=50,InstanceWarmup=3600")...)
	c.refused("InstanceRefreshInProgress", append(start, "MinHealthyPercentage=50")...)
	if cancelled := c.one("InstanceRefreshId", "autoscaling", "cancel-instance-refresh", "--auto-scaling-group-name", name); cancelled != id {
		c.Errorf("cancelled %s, want %s", cancelled, id)
	}
	c.until("Cancelled", "InstanceRefreshes[0].Status", "autoscaling", "describe-instance-refreshes", "--auto-scaling-group-name", name)

	c.aws(append(start, "MinHealthyPercentage=50,SkipMatching=true")...)
	c.until("Successful", "InstanceRefreshes[0].Status", "autoscaling", "describe-instance-refreshes", "--auto-scaling-group-name", name)
	if done := latest("PercentageComplete"); !slices.Equal(done, []string{"100"}) {
		c.Errorf("the refresh is %v %% complete", done)
	}
	c.until("2 2", ready, group...)
	c.aws("autoscaling", "start-instance-refresh", "--auto-scaling-group-name", name,
		"--desired-configuration", "LaunchTemplate={LaunchTemplateId="+template+",Version=1}",
		"--preferences", "MinHealthyPercentage=50,CheckpointPercentages=50,100,CheckpointDelay=3600")
	c.aws("autoscaling", "rollback-instance-refresh", "--auto-scaling-group-name", name)
	c.until("RollbackSuccessful", "InstanceRefreshes[0].Status", "autoscaling", "describe-instance-refreshes", "--auto-scaling-group-name", name)
	c.until("2 2", ready, group...)
	c.sorted("pages of one", c.query("AutoScalingInstances[].LaunchTemplate.Version", "autoscaling", "describe-auto-scaling-instances", "--page-size", "1"), []string{"2", "2"})
}

func cliFleet(c cli, ami string) {
	const name = "cli-fleet"
	c.aws("ec2", "create-launch-template", "--launch-template-name", name, "--launch-template-data", `{"ImageId":"`+ami+`"}`)
	create := []string{"ec2", "create-fleet", "--type", "instant", "--launch-template-configs",
		"LaunchTemplateSpecification={LaunchTemplateName=" + name + ",Version=$Latest},Overrides=[{InstanceType=t3.micro},{InstanceType=t3.small}]",
		"--target-capacity-specification"}
	ids := c.query("Instances[].InstanceIds[]", append(create, "TotalTargetCapacity=2,DefaultTargetCapacityType=on-demand")...)
	if len(ids) != 2 {
		c.Fatalf("the fleet launched %v, want two instances", ids)
	}
	c.aws(append([]string{"ec2", "wait", "instance-running", "--instance-ids"}, ids...)...)
	c.aws(append([]string{"ec2", "terminate-instances", "--instance-ids"}, ids...)...)
}

func cliBalancer(c cli, _ string) {
	subnets := c.query("Subnets[].SubnetId", "ec2", "describe-subnets", "--filters", "Name=default-for-az,Values=true")
	vpc := c.one("Vpcs[].VpcId", "ec2", "describe-vpcs")
	const name = "cli-balancer"
	arn := c.one("LoadBalancers[].LoadBalancerArn", append([]string{"elbv2", "create-load-balancer", "--name", name, "--subnets"}, subnets...)...)
	var targets []string
	for _, colour := range []string{"blue", "green"} {
		targets = append(targets, c.one("TargetGroups[].TargetGroupArn", "elbv2", "create-target-group", "--name", name+"-"+colour,
			"--protocol", "HTTP", "--port", "80", "--vpc-id", vpc))
	}
	forward := func(blue, green int) string {
		return fmt.Sprintf("Type=forward,ForwardConfig={TargetGroups=[{TargetGroupArn=%s,Weight=%d},{TargetGroupArn=%s,Weight=%d}]}", targets[0], blue, targets[1], green)
	}
	listener := c.one("Listeners[].ListenerArn", "elbv2", "create-listener", "--load-balancer-arn", arn, "--protocol", "HTTP", "--port", "80", "--default-actions", forward(1, 0))
	c.aws("elbv2", "wait", "load-balancer-available", "--load-balancer-arns", arn)
	c.aws("elbv2", "modify-listener", "--listener-arn", listener, "--default-actions", forward(0, 1))
	weights := c.query("Listeners[].DefaultActions[].ForwardConfig.TargetGroups[].Weight", "elbv2", "describe-listeners", "--load-balancer-arn", arn)
	if !slices.Equal(weights, []string{"0", "1"}) {
		c.Errorf("the listener has the weights %v, want 0 and 1", weights)
	}
	// elbv2 calls its own parameter --page-size: the CLI pages by --max-items.
	first := []string{"elbv2", "describe-target-groups", "--load-balancer-arn", arn, "--max-items", "1"}
	var page struct{ NextToken string }
	if err := json.Unmarshal([]byte(c.aws(first...)), &page); err != nil || page.NextToken == "" {
		c.Fatalf("--max-items gives the token %q (%v)", page.NextToken, err)
	}
	if second := c.one("TargetGroups[].TargetGroupArn", append(first, "--starting-token", page.NextToken)...); second != targets[1] {
		c.Errorf("the second page has %s, want %s", second, targets[1])
	}
	c.refused("TargetGroupNotFound", "elbv2", "describe-target-groups", "--names", "nobody")
	c.aws("elbv2", "delete-load-balancer", "--load-balancer-arn", arn)
	c.aws("elbv2", "wait", "load-balancers-deleted", "--load-balancer-arns", arn)
}

func cliParameters(c cli, _ string) {
	for _, name := range []string{"a", "b", "c"} {
		c.aws("ssm", "put-parameter", "--name", "/cli/"+name, "--value", "value of "+name, "--type", "String")
	}
	c.sorted("pages of one", c.query("Parameters[].Name", "ssm", "get-parameters-by-path", "--path", "/cli", "--page-size", "1"), []string{"/cli/a", "/cli/b", "/cli/c"})
	c.refused("ParameterAlreadyExists", "ssm", "put-parameter", "--name", "/cli/a", "--value", "x", "--type", "String")
	c.aws("ssm", "put-parameter", "--name", "/cli/a", "--value", "new", "--type", "String", "--overwrite")
	if value := c.query("Parameter.[Value,Version]", "ssm", "get-parameter", "--name", "/cli/a"); !slices.Equal(value, []string{"new", "2"}) {
		c.Errorf("the parameter is %v, want new in version 2", value)
	}
	c.refused("ParameterNotFound", "ssm", "get-parameter", "--name", "/cli/none")
}
