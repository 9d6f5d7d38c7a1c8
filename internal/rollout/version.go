package rollout

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/ladder"
)

// marker begins the description of every version that is made here.
const marker = "immutable-rollout: "

// inRun stands before the id of the run that made a version, at the end of its
// description.
const inRun = " in run "

// MadeBy tells whether a launch template version was made by a rollout, and in
// which run: versions can't be tagged.
func MadeBy(v ec2types.LaunchTemplateVersion) (run string, ours bool) {
	description := aws.ToString(v.VersionDescription)
	_, run, _ = strings.Cut(description, inRun)
	return run, strings.HasPrefix(description, marker)
}

// description marks a version, so that a run that was cut off finds it again
// in place of making one more. It holds a digest of all that the version is
// made from.
func (v Version) description() (string, error) {
	text, err := json.Marshal(v.Data)
	if err != nil {
		return "", fmt.Errorf("describe the next version of launch template %s: %w", v.Of, err)
	}
	digest := sha256.Sum256(text)
	return fmt.Sprintf(marker+"%s, made from version %d (%x)", aws.ToString(v.Data.ImageId), v.Source, digest[:8]), nil
}

// version finds or makes a launch template version and gives its number. What
// it made it puts on the ladder. An interrupt does not cut the making short, so
// that there is no version that nobody deletes.
func (r Rollout) version(ctx context.Context, l *ladder.Ladder, v Version) (number string, err error) {
	description, err := v.description()
	if err != nil {
		return "", err
	}
	number, err = r.findVersion(ctx, v, description)
	if err != nil {
		return "", err
	}
	if number != "" {
		r.Ui.Say(fmt.Sprintf("Launch template %s version %s is there from an earlier run with image %s", v.Of.template, number, r.Image))
		return number, nil
	}
	making, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*cloud.AttemptTimeout)
	defer stop()
	out, err := r.EC2.CreateLaunchTemplateVersion(making, &ec2.CreateLaunchTemplateVersionInput{
		ClientToken:        aws.String(rand.Text()), // for the SDK's own retries
		LaunchTemplateId:   &v.Of.template,
		SourceVersion:      aws.String(strconv.FormatInt(v.Source, 10)),
		VersionDescription: aws.String(description + inRun + cloud.ThisRun().ID),
		LaunchTemplateData: &v.Data,
	})
	if err != nil {
		return "", fmt.Errorf("make a launch template version from %s: %w", v.Of, err)
	}
	number = strconv.FormatInt(aws.ToInt64(out.LaunchTemplateVersion.VersionNumber), 10)
	made := reference{v.Of.template, number}
	born := cloud.Born()
	l.Add(fmt.Sprintf("delete launch template %s", made), func(ctx context.Context) error { return r.deleteVersion(ctx, made, born) })
	r.Ui.Say(fmt.Sprintf("Made launch template %s from version %d, with image %s", made, v.Source, r.Image))
	if out.Warning != nil {
		for _, warning := range out.Warning.Errors {
			r.Ui.Say(fmt.Sprintf("EC2 warns about launch template %s: %s: %s", made, aws.ToString(warning.Code), aws.ToString(warning.Message)))
		}
	}
	return number, r.waitVisible(ctx, made, born)
}

// findVersion looks among the versions that are younger than the source.
func (r Rollout) findVersion(ctx context.Context, v Version, description string) (number string, err error) {
	pages := ec2.NewDescribeLaunchTemplateVersionsPaginator(r.EC2, &ec2.DescribeLaunchTemplateVersionsInput{
		LaunchTemplateId: &v.Of.template,
		MinVersion:       aws.String(strconv.FormatInt(v.Source, 10)),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", fmt.Errorf("list the versions of launch template %s: %w", v.Of.template, err)
		}
		for _, version := range page.LaunchTemplateVersions {
			is, _, _ := strings.Cut(aws.ToString(version.VersionDescription), inRun)
			if is == description && imageOf(version) == r.Image {
				return strconv.FormatInt(aws.ToInt64(version.VersionNumber), 10), nil
			}
		}
	}
	return "", nil
}

// EC2 may not know a version yet in the first time after it made it, and Auto
// Scaling would refuse it.
func (r Rollout) waitVisible(ctx context.Context, made reference, born *cloud.Newborn) error {
	return cloud.Wait(ctx, cloud.Until{What: fmt.Sprintf("launch template %s is visible", made), Deadline: cloud.Visibility},
		func(ctx context.Context) (bool, string, error) {
			out, err := r.EC2.DescribeLaunchTemplateVersions(ctx, &ec2.DescribeLaunchTemplateVersionsInput{
				LaunchTemplateId: &made.template,
				Versions:         []string{made.version},
			})
			if cloud.Code(err) == "InvalidLaunchTemplateId.VersionNotFound" {
				return false, err.Error(), nil
			}
			if err != nil {
				return false, "", err
			}
			if len(out.LaunchTemplateVersions) == 0 {
				return false, "no such version", nil
			}
			born.Seen()
			return true, "", nil
		})
}

// deleteVersion deletes what was made. That it is not there is no error, unless
// it is too young for that to be believed.
func (r Rollout) deleteVersion(ctx context.Context, made reference, born *cloud.Newborn) error {
	return cloud.Wait(ctx, cloud.Until{What: "it is gone"}, func(ctx context.Context) (bool, string, error) {
		err := r.deleteOnce(ctx, made)
		if errors.Is(err, errNoVersion) {
			return !born.MayAppear(), err.Error(), nil
		}
		return err == nil, "", err
	})
}

var errNoVersion = errors.New("there is no such version")

func (r Rollout) deleteOnce(ctx context.Context, made reference) error {
	out, err := r.EC2.DeleteLaunchTemplateVersions(ctx, &ec2.DeleteLaunchTemplateVersionsInput{
		LaunchTemplateId: &made.template,
		Versions:         []string{made.version},
	})
	if err != nil {
		return err
	}
	for _, failed := range out.UnsuccessfullyDeletedLaunchTemplateVersions {
		if e := failed.ResponseError; e != nil {
			if e.Code == ec2types.LaunchTemplateErrorCodeLaunchTemplateVersionDoesNotExist {
				return errNoVersion
			}
			return fmt.Errorf("%s: %s", e.Code, aws.ToString(e.Message))
		}
	}
	return nil
}
