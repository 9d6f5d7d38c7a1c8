package image

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// AmazonLinux says which Amazon Linux is meant, as AWS's public SSM parameters
// tell them apart.
type AmazonLinux struct {
	Distribution string // "al2023" or "al2"
	Variant      string // "standard" or "minimal"
	Kernel       string // "default", or a line such as "6.12"
	Architecture string // "x86_64" or "arm64"
}

// What there is, from AWS's list of public parameters
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-public-parameters-ami.html
// and https://docs.aws.amazon.com/linux/al2023/ug/ec2.html).
var (
	distributions = []string{"al2023", "al2"}
	variants      = []string{"standard", "minimal"}
	architectures = []string{"x86_64", "arm64"}
	kernels       = map[string][]string{
		"al2023 standard": {"default", "6.1", "6.12", "6.18"},
		"al2023 minimal":  {"default", "6.1", "6.12", "6.18"},
		"al2 standard":    {"default", "5.10"},
		"al2 minimal":     {"default"},
	}
)

// Prepare fills in defaults, of which the architecture has none, and checks the
// rest. Its errors name fields as options are named.
func (l *AmazonLinux) Prepare() []error {
	var errs []error
	for _, field := range []struct {
		option, usual string
		value         *string
		known         []string
	}{
		{"distribution", "al2023", &l.Distribution, distributions},
		{"variant", "standard", &l.Variant, variants},
		{"architecture", "", &l.Architecture, architectures},
	} {
		if *field.value == "" {
			*field.value = field.usual
		}
		if !slices.Contains(field.known, *field.value) {
			errs = append(errs, fmt.Errorf("%s is %q; it is one of %s", field.option, *field.value, strings.Join(field.known, ", ")))
		}
	}
	if l.Kernel == "" {
		l.Kernel = "default"
	}
	known, ok := kernels[l.Distribution+" "+l.Variant]
	if ok && !slices.Contains(known, l.Kernel) {
		errs = append(errs, fmt.Errorf("kernel is %q; AWS publishes %s %s with %s", l.Kernel, l.Distribution, l.Variant, strings.Join(known, ", ")))
	}
	return errs
}

// Parameter is the public SSM parameter that holds the newest AMI's id. Of AL2's
// standard images, which AWS publishes with gp2 and standard volumes, it is the
// one with gp2: arm64 has no other.
func (l AmazonLinux) Parameter() string {
	const all = "/aws/service/ami-amazon-linux-latest/"
	minimal := l.Variant == "minimal"
	switch {
	case l.Distribution == "al2" && minimal:
		return all + "amzn2-ami-minimal-hvm-" + l.Architecture + "-ebs"
	case l.Distribution == "al2" && l.Kernel != "default":
		return all + "amzn2-ami-kernel-" + l.Kernel + "-hvm-" + l.Architecture + "-gp2"
	case l.Distribution == "al2":
		return all + "amzn2-ami-hvm-" + l.Architecture + "-gp2"
	case minimal:
		return all + "al2023-ami-minimal-kernel-" + l.Kernel + "-" + l.Architecture
	}
	return all + "al2023-ami-kernel-" + l.Kernel + "-" + l.Architecture
}

// named takes an Amazon Linux AMI's name apart: al2023-ami-2023.9.20251105.0-kernel-6.1-x86_64,
// amzn2-ami-kernel-5.10-hvm-2.0.20251105.0-x86_64-gp2.
var (
	releasePart = regexp.MustCompile(`-(\d+(?:\.\d+)+\.\d{8}\.\d+)(?:-|$)`)
	kernelPart  = regexp.MustCompile(`-kernel-(\d+\.\d+)(?:-|$)`)
)

// Release is the release that an Amazon Linux AMI's name tells, such as
// "2023.9.20251105.0", and Kernel its kernel line, such as "6.1"; "" where the
// name does not tell.
func Release(name string) string { return part(releasePart, name) }

// Kernel is described with Release.
func Kernel(name string) string { return part(kernelPart, name) }

func part(pattern *regexp.Regexp, name string) string {
	if m := pattern.FindStringSubmatch(name); m != nil {
		return m[1]
	}
	return ""
}
