package instance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPrepareWantsNothingButAName(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-west-1")
	var b Builder
	if _, warnings, err := b.Prepare(map[string]any{"ami_name": "hello"}); err != nil || len(warnings) > 0 {
		t.Errorf("Prepare gave %v, %v", warnings, err)
	}
	if c := b.config; c.Architecture != "x86_64" || c.InstanceTypes[0] != "t3.small" || c.ImageMethod != methodSnapshot || c.Comm.SSHUsername != "ec2-user" || c.RunTags["Name"] != "Packer Builder" {
		t.Errorf("the defaults are %+v", c)
	}
	b = Builder{}
	if _, _, err := b.Prepare(map[string]any{"ami_name": "hello", "architecture": "arm64"}); err != nil || b.config.InstanceTypes[0] != "t4g.small" || !strings.HasSuffix(b.config.SourceSsmParameter, "arm64") {
		t.Errorf("for arm64 it launches %v of %s: %v", b.config.InstanceTypes, b.config.SourceSsmParameter, err)
	}
}

func TestPrepareNamesOptionValueAndRemedy(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-west-1")
	long := strings.Repeat("x", longestUserData+1)
	file := filepath.Join(t.TempDir(), "user-data")
	if err := os.WriteFile(file, []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		options map[string]any
		says    []string
	}{
		"architecture":               {map[string]any{"architecture": "i386"}, []string{`architecture is "i386"`, "x86_64, arm64"}},
		"image method":               {map[string]any{"image_method": "clone"}, []string{`image_method is "clone"; it is "snapshot" or "create_image"`}},
		"boot mode of CreateImage":   {map[string]any{"image_method": "create_image", "boot_mode": "uefi"}, []string{"boot_mode is given with image_method", "leave boot_mode out"}},
		"two ways to subnets":        {map[string]any{"subnet_ids": []string{"subnet-0123456789abcdef0"}, "subnet_filter": map[string]any{"filters": map[string]string{"vpc-id": "vpc-1"}}}, []string{"subnet_ids and subnet_filter are given together; keep one"}},
		"subnet":                     {map[string]any{"subnet_ids": []string{"eu-west-1a"}}, []string{`subnet_ids has "eu-west-1a"; give the ID of a subnet`}},
		"security group":             {map[string]any{"security_group_ids": []string{"default"}}, []string{`security_group_ids has "default"; give the ID`}},
		"instance type":              {map[string]any{"instance_types": []string{"small"}}, []string{`instance_types has "small"; give an instance type such as t3.small`}},
		"run tags":                   {map[string]any{"run_tags": map[string]string{"aws:x": "y"}}, []string{`run_tags: tag "aws:x"`, "choose another"}},
		"communicator":               {map[string]any{"communicator": "winrm"}, []string{`communicator is "winrm"; this builder works over "ssh"`}},
		"interface":                  {map[string]any{"ssh_interface": "session_manager"}, []string{`ssh_interface is "session_manager"; it is one of`, "instance_connect"}},
		"pushed and own key":         {map[string]any{"ssh_interface": "instance_connect", "ssh_password": "secret"}, []string{`ssh_interface is "instance_connect" together with a key or a password of your own`, "leave the other out"}},
		"key pair without key":       {map[string]any{"ssh_keypair_name": "mine"}, []string{`ssh_keypair_name is "mine"`, "set ssh_private_key_file"}},
		"groups and sources":         {map[string]any{"security_group_ids": []string{"sg-0123456789abcdef0"}, "temporary_security_group_source_cidrs": []string{"10.0.0.0/8"}}, []string{"are given together; with groups of your own there is no temporary one"}},
		"source":                     {map[string]any{"temporary_security_group_source_cidrs": []string{"10.0.0.1/8"}}, []string{`has "10.0.0.1/8"; give IPv4 CIDR blocks`}},
		"user data":                  {map[string]any{"user_data": long}, []string{"user_data has 16385 bytes; EC2 allows 16384: have it fetch the rest"}},
		"user data file":             {map[string]any{"user_data_file": file}, []string{"user_data_file has 16385 bytes"}},
		"user data file that is not": {map[string]any{"user_data_file": file + ".txt"}, []string{"user_data_file: ", "no such file"}},
		"two user data":              {map[string]any{"user_data": "x", "user_data_file": file}, []string{"user_data and user_data_file are given together; keep one"}},
		"reuse key":                  {map[string]any{"reuse_key": "a\tb"}, []string{"reuse_key has the control character", "put a digest in its place"}},
		"unknown option":             {map[string]any{"instance_type": "t3.small"}, []string{"instance_type"}},
	} {
		t.Run(name, func(t *testing.T) {
			options := map[string]any{"ami_name": "hello"}
			for option, value := range test.options {
				options[option] = value
			}
			_, _, err := new(Builder).Prepare(options)
			says(t, err, test.says...)
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error has the password: %v", err)
			}
		})
	}
}
