package ssm_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/door/doortest"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/ssm"
)

const public = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"

func serve(t *testing.T) *awsssm.Client {
	t.Helper()
	books, clock := doortest.Books(t), doortest.Clock(t)
	service, err := ssm.New(books, clock)
	if err != nil {
		t.Fatal(err)
	}
	books.Do(func() { service.Publish(doortest.Region, public, "aws:ec2:image", "ami-0123456789abcdef0") })
	return awsssm.NewFromConfig(doortest.Serve(t, books, clock, service.API()))
}

func refused(t *testing.T, err error, code string) {
	t.Helper()
	if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func put(t *testing.T, client *awsssm.Client, in awsssm.PutParameterInput) int64 {
	t.Helper()
	if in.Type == "" {
		in.Type = types.ParameterTypeString
	}
	out, err := client.PutParameter(t.Context(), &in)
	if err != nil {
		t.Fatal(err)
	}
	return out.Version
}

func TestVersionsOfAParameter(t *testing.T) {
	client := serve(t)
	for i := range int64(3) {
		value := fmt.Sprint("value ", i)
		if got := put(t, client, awsssm.PutParameterInput{Name: aws.String("/app/x"), Value: &value, Overwrite: aws.Bool(true)}); got != i+1 {
			t.Errorf("version %d, want %d", got, i+1)
		}
	}
	for name, want := range map[string]string{"/app/x": "value 2", "/app/x:2": "value 1", "arn:aws:ssm:eu-west-1:123456789012:parameter/app/x": "value 2"} {
		out, err := client.GetParameter(t.Context(), &awsssm.GetParameterInput{Name: &name})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := *out.Parameter.Value; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	_, err := client.GetParameter(t.Context(), &awsssm.GetParameterInput{Name: aws.String("/app/x:9")})
	refused(t, err, "ParameterVersionNotFound")
	_, err = client.GetParameter(t.Context(), &awsssm.GetParameterInput{Name: aws.String("/app/y")})
	if _, ok := errors.AsType[*types.ParameterNotFound](err); !ok {
		t.Errorf("an unknown parameter gives %v", err)
	}
}

func TestPublicParametersAreReadOnly(t *testing.T) {
	client := serve(t)
	out, err := client.GetParameter(t.Context(), &awsssm.GetParameterInput{Name: aws.String(public)})
	if err != nil {
		t.Fatal(err)
	}
	if p := out.Parameter; *p.Value != "ami-0123456789abcdef0" || *p.DataType != "aws:ec2:image" || *p.ARN != "arn:aws:ssm:eu-west-1::parameter"+public {
		t.Errorf("got %s, %s, %s", *p.Value, *p.DataType, *p.ARN)
	}
	_, err = client.PutParameter(t.Context(), &awsssm.PutParameterInput{Name: aws.String(public), Value: aws.String("x"), Overwrite: aws.Bool(true)})
	refused(t, err, "AccessDeniedException")
	_, err = client.DeleteParameter(t.Context(), &awsssm.DeleteParameterInput{Name: aws.String(public)})
	refused(t, err, "AccessDeniedException")
}

func TestPutsThatAreRefused(t *testing.T) {
	client := serve(t)
	put(t, client, awsssm.PutParameterInput{Name: aws.String("there"), Value: aws.String("x")})
	for _, test := range []struct {
		name string
		in   awsssm.PutParameterInput
		code string
	}{
		{"exists", awsssm.PutParameterInput{Name: aws.String("there"), Value: aws.String("y"), Type: "String"}, "ParameterAlreadyExists"},
		{"another type", awsssm.PutParameterInput{Name: aws.String("there"), Value: aws.String("y"), Type: "SecureString", Overwrite: aws.Bool(true)}, "HierarchyTypeMismatchException"},
		{"no type", awsssm.PutParameterInput{Name: aws.String("new"), Value: aws.String("y")}, "ValidationException"},
		{"no slash in front", awsssm.PutParameterInput{Name: aws.String("a/b"), Value: aws.String("y"), Type: "String"}, "ValidationException"},
		{"no AMI", awsssm.PutParameterInput{Name: aws.String("/a"), Value: aws.String("y"), Type: "String", DataType: aws.String("aws:ec2:image")}, "ValidationException"},
		{"too long", awsssm.PutParameterInput{Name: aws.String("/a"), Value: aws.String(fmt.Sprintf("%5000d", 1)), Type: "String"}, "ValidationException"},
		{"pattern", awsssm.PutParameterInput{Name: aws.String("/a"), Value: aws.String("y"), Type: "String", AllowedPattern: aws.String("^x$")}, "ParameterPatternMismatchException"},
		{"tags", awsssm.PutParameterInput{Name: aws.String("/a"), Value: aws.String("y"), Type: "String", Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}}, "ValidationException"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := client.PutParameter(t.Context(), &test.in)
			refused(t, err, test.code)
		})
	}
}

func TestGetParametersSortsOutWhatIsNotThere(t *testing.T) {
	client := serve(t)
	out, err := client.GetParameters(t.Context(), &awsssm.GetParametersInput{Names: []string{"nothing", public}})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Parameters) != 1 || len(out.InvalidParameters) != 1 || out.InvalidParameters[0] != "nothing" {
		t.Errorf("got %+v", out)
	}
}

func TestGetParametersByPathPages(t *testing.T) {
	client := serve(t)
	for i := range 12 {
		put(t, client, awsssm.PutParameterInput{Name: aws.String(fmt.Sprintf("/app/%02d", i)), Value: aws.String("x")})
	}
	put(t, client, awsssm.PutParameterInput{Name: aws.String("/app/sub/deep"), Value: aws.String("x")})
	count := func(recursive bool) (n int) {
		pages := awsssm.NewGetParametersByPathPaginator(client, &awsssm.GetParametersByPathInput{Path: aws.String("/app"), Recursive: &recursive})
		for pages.HasMorePages() {
			out, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			n += len(out.Parameters)
		}
		return n
	}
	if flat, deep := count(false), count(true); flat != 12 || deep != 13 {
		t.Errorf("%d parameters at the path and %d below it, want 12 and 13", flat, deep)
	}
}

func TestSecureStringsAreShownOnlyWithDecryption(t *testing.T) {
	client := serve(t)
	put(t, client, awsssm.PutParameterInput{Name: aws.String("secret"), Value: aws.String("hidden"), Type: types.ParameterTypeSecureString})
	for _, decrypt := range []bool{false, true} {
		out, err := client.GetParameter(t.Context(), &awsssm.GetParameterInput{Name: aws.String("secret"), WithDecryption: &decrypt})
		if err != nil {
			t.Fatal(err)
		}
		if shown := *out.Parameter.Value == "hidden"; shown != decrypt {
			t.Errorf("shown %v with decryption %v", shown, decrypt)
		}
	}
}

func TestDescribeParametersListsOnlyOnesOwn(t *testing.T) {
	client := serve(t)
	put(t, client, awsssm.PutParameterInput{Name: aws.String("/app/x"), Value: aws.String("x"), Description: aws.String("d")})
	put(t, client, awsssm.PutParameterInput{Name: aws.String("/other"), Value: aws.String("x")})
	out, err := client.DescribeParameters(t.Context(), &awsssm.DescribeParametersInput{ParameterFilters: []types.ParameterStringFilter{
		{Key: aws.String("Name"), Option: aws.String("BeginsWith"), Values: []string{"/app"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Parameters) != 1 || *out.Parameters[0].Description != "d" || *out.Parameters[0].LastModifiedUser != "arn:aws:iam::123456789012:user/AKIATEST" {
		t.Errorf("got %+v", out.Parameters)
	}
	if all, err := client.DescribeParameters(t.Context(), nil); err != nil || len(all.Parameters) != 2 {
		t.Errorf("without a filter: %v, %v", all, err)
	}
}

func TestLabelsOfVersions(t *testing.T) {
	client := serve(t)
	name := "/app/image"
	for _, value := range []string{"one", "two"} {
		put(t, client, awsssm.PutParameterInput{Name: &name, Value: &value, Overwrite: aws.Bool(true)})
	}
	label := func(version *int64, labels ...string) []string {
		out, err := client.LabelParameterVersion(t.Context(), &awsssm.LabelParameterVersionInput{Name: &name, ParameterVersion: version, Labels: labels})
		if err != nil {
			t.Fatal(err)
		}
		return out.InvalidLabels
	}
	is := func(want string) {
		t.Helper()
		out, err := client.GetParameter(t.Context(), &awsssm.GetParameterInput{Name: aws.String(name + ":stable")})
		if err != nil || *out.Parameter.Value != want {
			t.Errorf("the label stands for %+v, %v, want %s", out, err, want)
		}
	}
	if invalid := label(aws.Int64(1), "stable", "1st", "awsome", "ssm.x"); fmt.Sprint(invalid) != "[1st awsome ssm.x]" {
		t.Errorf("invalid are %v", invalid)
	}
	is("one")
	label(nil, "stable") // the latest
	is("two")
	_, err := client.GetParameter(t.Context(), &awsssm.GetParameterInput{Name: aws.String(name + ":beta")})
	refused(t, err, "ParameterVersionNotFound")
	_, err = client.LabelParameterVersion(t.Context(), &awsssm.LabelParameterVersionInput{Name: &name, ParameterVersion: aws.Int64(7), Labels: []string{"x"}})
	refused(t, err, "ParameterVersionNotFound")
	_, err = client.LabelParameterVersion(t.Context(), &awsssm.LabelParameterVersionInput{Name: &name, Labels: []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"}})
	refused(t, err, "ParameterVersionLabelLimitExceeded")
}
