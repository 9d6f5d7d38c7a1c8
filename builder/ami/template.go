package ami

import (
	"fmt"
	"maps"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/immutable-server/packer-plugin-immutable/internal/image"
)

// Data is what the templates of descriptions and tags can speak of, by
// the names of the amazon plugin.
type Data struct {
	BuildRegion           string
	SourceAMI             string
	SourceAMIName         string
	SourceAMICreationDate string
	SourceAMIOwner        string
	SourceAMIOwnerName    string
	SourceAMITags         map[string]string
}

// DataOf gives the data of a base; a local disk has no AMI.
func DataOf(region string, source *types.Image) Data {
	data := Data{BuildRegion: region}
	if i := source; i != nil {
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

// Texts are the rendered templates. The snapshot has the AMI's tags too.
type Texts struct {
	Description        string
	Tags, SnapshotTags map[string]string
}

// Render renders the templates. Its errors name the option.
func (o *Options) Render(data Data) (Texts, error) {
	ctx := o.ctx
	ctx.Data = data
	description, err := interpolate.Render(o.AmiDescription, &ctx)
	if err != nil {
		return Texts{}, fmt.Errorf("ami_description: %w", err)
	}
	if runes := []rune(description); len(runes) > maxDescription {
		description = string(runes[:maxDescription])
	}
	amiTags, err := renderMap("tags", o.Tags, &ctx)
	if err != nil {
		return Texts{}, err
	}
	own, err := renderMap("snapshot_tags", o.SnapshotTags, &ctx)
	if err != nil {
		return Texts{}, err
	}
	snapshotTags := maps.Clone(amiTags)
	maps.Copy(snapshotTags, own)
	maps.Copy(amiTags, o.reuseTags(data.SourceAMI))
	return Texts{description, amiTags, snapshotTags}, nil
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
