package direct

import (
	"fmt"
	"maps"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/immutable-server/packer-plugin-immutable/builder/base"
	"github.com/immutable-server/packer-plugin-immutable/internal/image"
)

// templateData is what the templates of descriptions and tags can speak of, by
// the names of the amazon plugin.
type templateData struct {
	BuildRegion           string
	SourceAMI             string
	SourceAMIName         string
	SourceAMICreationDate string
	SourceAMIOwner        string
	SourceAMIOwnerName    string
	SourceAMITags         map[string]string
}

func dataOf(region string, disk base.Disk) templateData {
	data := templateData{BuildRegion: region}
	if i := disk.Source; i != nil {
		data.SourceAMI = aws.ToString(i.ImageId)
		data.SourceAMIName = aws.ToString(i.Name)
		data.SourceAMICreationDate = aws.ToString(i.CreationDate)
		data.SourceAMIOwner = aws.ToString(i.OwnerId)
		data.SourceAMIOwnerName = aws.ToString(i.ImageOwnerAlias)
		data.SourceAMITags = image.Tags(*i)
	}
	return data
}

// maxDescription is how many characters EC2 and EBS allow in a description.
const maxDescription = 255

// texts are the rendered templates. The snapshot has the AMI's tags too.
type texts struct {
	description        string
	tags, snapshotTags map[string]string
}

func (c *Config) render(data templateData) (texts, error) {
	ctx := c.ctx
	ctx.Data = data
	description, err := interpolate.Render(c.AmiDescription, &ctx)
	if err != nil {
		return texts{}, fmt.Errorf("ami_description: %w", err)
	}
	if runes := []rune(description); len(runes) > maxDescription {
		description = string(runes[:maxDescription])
	}
	amiTags, err := renderMap("tags", c.Tags, &ctx)
	if err != nil {
		return texts{}, err
	}
	own, err := renderMap("snapshot_tags", c.SnapshotTags, &ctx)
	if err != nil {
		return texts{}, err
	}
	snapshotTags := maps.Clone(amiTags)
	maps.Copy(snapshotTags, own)
	return texts{description, amiTags, snapshotTags}, nil
}

func renderMap(option string, templates map[string]string, ctx *interpolate.Context) (map[string]string, error) {
	rendered := map[string]string{}
	for key, value := range templates {
		k, err := interpolate.Render(key, ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", option, err)
		}
		if rendered[k], err = interpolate.Render(value, ctx); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", option, key, err)
		}
	}
	return rendered, nil
}
