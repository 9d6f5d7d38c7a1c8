package image

import (
	"errors"
	"strings"
	"testing"
)

func TestAmazonLinuxHasAWSsParameters(t *testing.T) {
	for want, l := range map[string]AmazonLinux{
		"al2023-ami-kernel-default-x86_64":        {Architecture: "x86_64"},
		"al2023-ami-kernel-6.12-arm64":            {Kernel: "6.12", Architecture: "arm64"},
		"al2023-ami-minimal-kernel-default-arm64": {Variant: "minimal", Architecture: "arm64"},
		"amzn2-ami-hvm-x86_64-gp2":                {Distribution: "al2", Architecture: "x86_64"},
		"amzn2-ami-kernel-5.10-hvm-arm64-gp2":     {Distribution: "al2", Kernel: "5.10", Architecture: "arm64"},
		"amzn2-ami-minimal-hvm-x86_64-ebs":        {Distribution: "al2", Variant: "minimal", Architecture: "x86_64"},
		"al2023-ami-minimal-kernel-6.18-x86_64":   {Variant: "minimal", Kernel: "6.18", Architecture: "x86_64"},
	} {
		if errs := l.Prepare(); len(errs) > 0 {
			t.Errorf("%+v: %v", l, errs)
		}
		if got := l.Parameter(); got != "/aws/service/ami-amazon-linux-latest/"+want {
			t.Errorf("%+v has the parameter %s, want %s", l, got, want)
		}
	}
}

func TestAmazonLinuxRefusesWhatAWSDoesNotPublish(t *testing.T) {
	for want, l := range map[string]AmazonLinux{
		`distribution is "al1"; it is one of al2023, al2`: {Distribution: "al1", Architecture: "arm64"},
		`variant is "tiny"`:       {Variant: "tiny", Architecture: "arm64"},
		`architecture is "riscv"`: {Architecture: "riscv"},
		`kernel is "5.10"; AWS publishes al2023 standard with default, 6.1, 6.12, 6.18`: {Kernel: "5.10", Architecture: "arm64"},
		`kernel is "5.10"; AWS publishes al2 minimal with default`:                      {Distribution: "al2", Variant: "minimal", Kernel: "5.10", Architecture: "arm64"},
	} {
		if err := errors.Join(l.Prepare()...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", l, err, want)
		}
	}
}

func TestTheNameTellsReleaseAndKernel(t *testing.T) {
	for name, want := range map[string][2]string{
		"al2023-ami-2023.9.20251105.0-kernel-6.1-x86_64":          {"2023.9.20251105.0", "6.1"},
		"al2023-ami-minimal-2023.12.20260817.2-kernel-6.18-arm64": {"2023.12.20260817.2", "6.18"},
		"amzn2-ami-kernel-5.10-hvm-2.0.20251105.0-x86_64-gp2":     {"2.0.20251105.0", "5.10"},
		"amzn2-ami-hvm-2.0.20251105.0-arm64-gp2":                  {"2.0.20251105.0", ""},
		"golden-1.2.3":                                            {"", ""},
	} {
		if release, kernel := Release(name), Kernel(name); release != want[0] || kernel != want[1] {
			t.Errorf("%s tells release %q and kernel %q, want %q", name, release, kernel, want)
		}
	}
}
