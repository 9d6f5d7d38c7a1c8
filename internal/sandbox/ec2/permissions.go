package ec2

import (
	"path"
	"slices"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// launching lists what must be permitted to who runs a plan, be it himself, by a
// fleet or by a group: RunInstances on all that it uses, and what follows from
// the launch template
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ExamplePolicies_EC2.html#iam-example-runinstances,
// https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-launch-template-permissions.html).
func (r *region) launching(p *plan) []api.Action {
	actions := []api.Action{{Name: "ec2:RunInstances", Resources: r.uses(p)}}
	if p.parameter != "" {
		actions = append(actions, r.reading(p.parameter))
	}
	if profile := p.data.IamInstanceProfile; profile != nil {
		// IAM asks for the role in the profile, which is taken to be called as
		// the profile is.
		actions = append(actions, api.Action{Name: "iam:PassRole", Resources: []string{"arn:aws:iam::" + api.Account + ":role/" + path.Base(profile.arn())}})
	}
	return append(actions, r.tagging(p.tagged)...)
}

// opening lists what must be permitted on the keys of a plan's volumes. Where a
// group launches, it is asked of the group's own role
// (https://docs.aws.amazon.com/autoscaling/ec2/userguide/key-policy-requirements-EBS-encryption.html).
func (r *region) opening(p *plan) []api.Action {
	var actions []api.Action
	for _, device := range p.devices {
		from := r.service.store.In(r.name).Snapshots[device.snapshotID]
		actions = append(actions, r.encrypting(device.volume.KmsKeyId, r, snapshot{from})...)
	}
	return actions
}

// uses lists the resources of RunInstances.
func (r *region) uses(p *plan) []string {
	all := []string{r.arn("image", p.image.Id), r.arn("instance", "*"), r.arn("network-interface", "*"), r.arn("subnet", p.subnet.Id), r.arn("volume", "*")}
	for _, id := range p.groups {
		all = append(all, r.arn("security-group", id))
	}
	if p.data.KeyName != "" {
		all = append(all, r.arn("key-pair", p.data.KeyName))
	}
	if p.template != nil {
		all = append(all, r.arn("launch-template", p.template.ID))
	}
	for _, device := range p.devices {
		if device.snapshotID != "" && !slices.Contains(p.image.snapshots(), device.snapshotID) {
			all = append(all, r.arn("snapshot", device.snapshotID))
		}
	}
	if p.data.lifecycle() == spotLifecycle {
		all = append(all, r.arn("spot-instances-request", "*"))
	}
	return all
}

// reading is the permission to read the parameter that names an image
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-systems-manager-parameter-to-find-AMI.html).
func (r *region) reading(parameter string) api.Action {
	var arn string
	if strings.HasPrefix(parameter, "arn:") {
		parts := strings.Split(parameter, ":") // the seventh is a version or a label
		arn = strings.Join(parts[:min(len(parts), 6)], ":")
	} else {
		name, _, _ := strings.Cut(parameter, ":")
		account := api.Account
		if strings.HasPrefix(name, "/aws/") {
			account = "" // public
		}
		arn = "arn:aws:ssm:" + r.name + ":" + account + ":parameter/" + strings.TrimPrefix(name, "/")
	}
	return api.Action{Name: "ssm:GetParameters", Resources: []string{arn}}
}

// noteParameter notes that a caller must be permitted to read the parameter that
// names an image, where one does.
func (r *region) noteParameter(c *api.Call, imageID string) {
	if name, is := strings.CutPrefix(imageID, parameterScheme); is {
		needs(c, []api.Action{r.reading(name)})
	}
}

// encrypting lists what must be permitted to who makes something with the key of
// an ARN out of a snapshot of a region, or of none. Of AWS's own key of EBS it is
// nothing, because its key policy permits everybody in the account to use it
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebsapi-permissions.html).
// Which of the actions that EBS encryption needs each call needs, AWS does not
// say; here it is all of them
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html#ebs-encryption-permissions).
// A snapshot that is encrypted is encrypted again.
func (r *region) encrypting(key string, of *region, from snapshot) []api.Action {
	var actions []api.Action
	permit := func(key string, names ...string) {
		for _, name := range names {
			actions = append(actions, api.Action{Name: "kms:" + name, Resources: []string{key}})
		}
	}
	again := from.Snapshot != nil && from.Encrypted
	if again && from.KmsKeyId != of.defaultKey() {
		permit(from.KmsKeyId, "CreateGrant", "Decrypt", "DescribeKey", "ReEncryptFrom")
	}
	if key != "" && key != r.defaultKey() {
		permit(key, "CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKeyWithoutPlaintext")
		if again {
			permit(key, "ReEncryptTo")
		}
	}
	return actions
}

// tagging lists what must be permitted to who tags what it creates.
func (r *region) tagging(byType map[string]tags) []api.Action {
	var actions []api.Action
	for kind := range byType {
		actions = append(actions, api.Action{Name: "ec2:CreateTags", Resources: []string{r.arn(kind, "*")}})
	}
	slices.SortFunc(actions, func(a, b api.Action) int { return strings.Compare(a.Resources[0], b.Resources[0]) })
	return actions
}

// needs notes what else a caller must be permitted.
func needs(c *api.Call, actions []api.Action) {
	for _, action := range actions {
		c.Needs(action.Name, action.Resources...)
	}
}
