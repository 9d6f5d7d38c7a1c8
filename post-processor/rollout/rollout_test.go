package rollout

import (
	"strings"
	"testing"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
)

var _ packersdk.PostProcessor = (*PostProcessor)(nil)

func with(more map[string]any) map[string]any {
	all := map[string]any{"auto_scaling_group": "hello"}
	for key, value := range more {
		all[key] = value
	}
	return all
}

func TestConfigureNamesWhatIsWrong(t *testing.T) {
	for name, test := range map[string]struct {
		config map[string]any
		want   string
	}{
		"no group":          {map[string]any{}, "auto_scaling_group is not set"},
		"a long name":       {with(map[string]any{"auto_scaling_group": strings.Repeat("g", 256)}), "auto_scaling_group has 256 characters"},
		"a preference":      {with(map[string]any{"min_healthy_percentage": 101}), "min_healthy_percentage is 101"},
		"a negative time":   {with(map[string]any{"timeout": "-5m"}), "timeout is -5m0s"},
		"no time":           {with(map[string]any{"bake_time": "5"}), "missing unit"},
		"an unknown region": {with(map[string]any{"region": "eu-wset-1"}), "eu-wset-1"},
		"an unknown option": {with(map[string]any{"auto_scaling_groups": "x"}), "auto_scaling_groups"},
	} {
		t.Run(name, func(t *testing.T) {
			err := new(PostProcessor).Configure(test.config)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestConfigureTakesDurationsAsPackerWritesThem(t *testing.T) {
	var p PostProcessor
	err := p.Configure(with(map[string]any{
		"instance_warmup": "0s", "checkpoint_percentages": []int{20, 100}, "checkpoint_delay": "10m", "bake_time": "1h30m", "timeout": "2h",
		"auto_rollback": false,
	}))
	if err != nil {
		t.Fatal(err)
	}
	c := p.config
	if c.InstanceWarmup == nil || *c.InstanceWarmup != 0 || *c.CheckpointDelay != 10*time.Minute || c.BakeTime != 90*time.Minute || c.Timeout != 2*time.Hour {
		t.Errorf("configuration is %+v", c)
	}
	if !c.AutoRollback.False() || c.SkipMatching.False() {
		t.Errorf("auto_rollback is %v, skip_matching %v", c.AutoRollback, c.SkipMatching)
	}
}

func TestConfigureNeedsNothingButTheGroup(t *testing.T) {
	var p PostProcessor
	if err := p.Configure(with(nil)); err != nil {
		t.Fatal(err)
	}
	if c := p.config; c.Prefix != "Source/" || *c.MinHealthyPercentage != 100 || *c.MaxHealthyPercentage != 110 {
		t.Errorf("defaults are %+v", c)
	}
}

func TestTheRegionIsTheArtifactsUnlessGiven(t *testing.T) {
	one := map[string]string{"eu-west-1": "ami-1"}
	two := map[string]string{"eu-west-1": "ami-1", "us-east-1": "ami-2"}
	for name, test := range map[string]struct {
		option, env string
		amis        map[string]string
		want, err   string
	}{
		"the only one":                           {"", "", one, "eu-west-1", ""},
		"the only one, and not the usual":        {"", "us-east-1", one, "eu-west-1", ""},
		"given":                                  {"us-east-1", "eu-west-1", two, "us-east-1", ""},
		"the usual one of two":                   {"", "us-east-1", two, "us-east-1", ""},
		"none known":                             {"", "", two, "", "region is not set"},
		"given, but no image there":              {"eu-north-1", "", two, "", `region is "eu-north-1", and the artifact has images in eu-west-1, us-east-1`},
		"given, but the only image is not there": {"eu-north-1", "", one, "", "have the image made in that region too"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_REGION", test.env)
			t.Setenv("AWS_DEFAULT_REGION", "")
			t.Setenv("AWS_CONFIG_FILE", "/dev/null")
			var p PostProcessor
			if err := p.Configure(with(map[string]any{"region": test.option})); err != nil {
				t.Fatal(err)
			}
			got, err := p.region(test.amis)
			if test.err == "" && (err != nil || got != test.want) {
				t.Errorf("region %q, error %v; want %q", got, err, test.want)
			}
			if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("error %v, want one with %q", err, test.err)
			}
		})
	}
}

func TestAnArtifactWithoutImagesIsRefused(t *testing.T) {
	var p PostProcessor
	if err := p.Configure(with(nil)); err != nil {
		t.Fatal(err)
	}
	_, _, _, err := p.PostProcess(t.Context(), packersdk.TestUi(t), &packersdk.MockArtifact{BuilderIdValue: "null"})
	if err == nil || !strings.Contains(err.Error(), "holds no AMI") {
		t.Errorf("error %v", err)
	}
}
