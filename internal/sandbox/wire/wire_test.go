package wire

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
)

type filter struct {
	Name   string
	Values []string `wire:"Value"`
}

type device struct {
	DeviceName string
	Size       *int `wire:"VolumeSize"`
}

type input struct {
	Name     string `wire:",,required"`
	Filters  []filter
	Flag     *bool
	Since    time.Time
	UserData []byte
	Device   *device
}

func form(pairs ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Join(pairs, "&")))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

func jsonRequest(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("X-Amz-Target", "T.Do")
	return r
}

func TestProtocolsDecodeTheSame(t *testing.T) {
	yes, size := true, 8
	want := input{
		Name: "a b", Filters: []filter{{"x", []string{"1", "2"}}, {Name: "y"}}, Flag: &yes,
		Since: time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC), UserData: []byte("hi"), Device: &device{"/dev/xvda", &size},
	}
	for _, test := range []struct {
		name     string
		protocol Protocol
		request  *http.Request
	}{
		{"EC2", EC2(), form("Action=Do", "Name=a+b", "Filters.1.Name=x", "Filters.1.Value.1=1", "Filters.1.Value.2=2", "Filters.10.Name=y",
			"Flag=true", "Since=2025-01-02T03:04:05Z", "UserData=aGk%3D", "Device.DeviceName=/dev/xvda", "Device.VolumeSize=8")},
		{"Query", Query(""), form("Action=Do", "Name=a+b", "Filters.member.1.Name=x", "Filters.member.1.Value.member.1=1", "Filters.member.1.Value.member.2=2", "Filters.member.2.Name=y",
			"Flag=true", "Since=2025-01-02T03:04:05Z", "UserData=aGk%3D", "Device.DeviceName=/dev/xvda", "Device.VolumeSize=8")},
		{"JSON", JSON("T"), jsonRequest(`{"Name":"a b","Filters":[{"Name":"x","Value":["1","2"]},{"Name":"y"}],
			"Flag":true,"Since":1735787045,"UserData":"aGk=","Device":{"DeviceName":"/dev/xvda","VolumeSize":8}}`)},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := test.protocol.Parse(test.request)
			if err != nil {
				t.Fatal(err)
			}
			if r.Operation != "Do" {
				t.Errorf("operation %q", r.Operation)
			}
			var got input
			if err := r.Decode(&got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestWhatDoesNotFitIsNamed(t *testing.T) {
	for _, test := range []struct {
		name     string
		protocol Protocol
		request  *http.Request
		code     string
		names    string
	}{
		{"unknown", EC2(), form("Name=a", "Colour=red"), "UnknownParameter", "Colour"},
		{"unknown below", EC2(), form("Name=a", "Device.Colour=red"), "UnknownParameter", "Device.Colour"},
		{"unknown in a list", Query(""), form("Name=a", "Filters.member.1.Colour=red"), "ValidationError", "Filters.1.Colour"},
		{"unknown in JSON", JSON("T"), jsonRequest(`{"Name":"a","Colour":"red"}`), "ValidationException", "Colour"},
		{"missing", EC2(), form(), "MissingParameter", "Name"},
		{"missing", Query(""), form(), "ValidationError", "Name"},
		{"missing", JSON("T"), jsonRequest(``), "ValidationException", "Name"},
		{"no number", EC2(), form("Name=a", "Device.VolumeSize=big"), "InvalidParameterValue", "Device.VolumeSize"},
		{"number as string", JSON("T"), jsonRequest(`{"Name":"a","Device":{"VolumeSize":"8"}}`), "SerializationException", "Device.VolumeSize"},
		{"no flag", EC2(), form("Name=a", "Flag=yes"), "InvalidParameterValue", "Flag"},
		{"no base64", EC2(), form("Name=a", "UserData=%21"), "InvalidParameterValue", "UserData"},
		{"no list", EC2(), form("Name=a", "Filters=x"), "InvalidParameterValue", "Filters"},
		{"value and structure", EC2(), form("Name=a", "Device=x", "Device.DeviceName=y"), "InvalidParameterValue", "Device.DeviceName"},
		{"twice", EC2(), form("Name=a", "Name=b"), "InvalidParameterValue", "Name"},
		{"an unwrapped list", Query(""), form("Name=a", "Filters.1.Name=x"), "ValidationError", "Filters"},
		{"no JSON", JSON("T"), jsonRequest(`{"Name":`), "SerializationException", "JSON"},
		{"more than JSON", JSON("T"), jsonRequest(`{"Name":"a"} {}`), "SerializationException", "JSON"},
		{"JSON null", JSON("T"), jsonRequest(`null`), "ValidationException", "Name"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := test.protocol.Parse(test.request)
			if err != nil {
				t.Fatal(err)
			}
			e, ok := errors.AsType[*Error](r.Decode(&input{}))
			if !ok || e.Code != test.code || !strings.Contains(e.Message, test.names) {
				t.Errorf("got %v, want %s naming %s", e, test.code, test.names)
			}
		})
	}
}

func TestAnEmptyListIsAList(t *testing.T) {
	r, err := Query("").Parse(form("Name=a", "Filters="))
	if err != nil {
		t.Fatal(err)
	}
	var got input
	if err := r.Decode(&got); err != nil || got.Filters == nil || len(got.Filters) != 0 {
		t.Errorf("got %#v, %v", got.Filters, err)
	}
}

type item struct {
	ImageId string
	Size    *int
	Names   []string
}

type output struct {
	Images    []item `wire:",imagesSet"`
	None      []item
	NextToken string
	At        time.Time
	Return    bool
}

func TestResponses(t *testing.T) {
	size := 8
	out := &output{
		Images: []item{{ImageId: "ami-<1>", Size: &size, Names: []string{"a", "b"}}, {Names: []string{}}},
		At:     time.Date(2025, 1, 2, 3, 4, 5, 6e6, time.UTC),
	}
	for _, test := range []struct {
		name     string
		protocol Protocol
		want     string
	}{
		{"EC2", EC2(), `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<DoResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>id</requestId>` +
			`<imagesSet><item><imageId>ami-&lt;1&gt;</imageId><size>8</size><names><item>a</item><item>b</item></names></item><item><names></names></item></imagesSet>` +
			`<none></none><at>2025-01-02T03:04:05.006Z</at><return>false</return></DoResponse>`},
		{"Query", Query("ns"), `<DoResponse xmlns="ns"><DoResult>` +
			`<imagesSet><member><ImageId>ami-&lt;1&gt;</ImageId><Size>8</Size><Names><member>a</member><member>b</member></Names></member><member><Names></Names></member></imagesSet>` +
			`<None></None><At>2025-01-02T03:04:05.006Z</At><Return>false</Return></DoResult><ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></DoResponse>`},
		{"JSON", JSON("T"), `{"imagesSet":[{"ImageId":"ami-\u003c1\u003e","Size":8,"Names":["a","b"]},{"Names":[]}],"None":[],"At":1735787045.006,"Return":false}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := string(test.protocol.Encode("Do", "id", out).Body); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	for _, test := range []struct {
		name     string
		protocol Protocol
		err      error
		status   int
		want     string
	}{
		{"EC2", EC2(), Errorf("A.B", "no %s", "<c>"), 400, `<Response><Errors><Error><Code>A.B</Code><Message>no &lt;c&gt;</Message></Error></Errors><RequestID>id</RequestID></Response>`},
		{"Query", Query("ns"), Errorf("A", "no").With(404), 404, `<ErrorResponse xmlns="ns"><Error><Type>Sender</Type><Code>A</Code><Message>no</Message></Error><RequestId>id</RequestId></ErrorResponse>`},
		{"Query, internal", Query("ns"), errors.New("disk"), 500, `<Type>Receiver</Type><Code>InternalFailure</Code><Message>disk</Message>`},
		{"JSON", JSON("T"), Errorf("A", "no"), 400, `{"__type":"A","message":"no"}`},
		{"REST", RESTJSON(nil), Errorf("A", "no").Because("WHY"), 400, `{"Message":"no","Reason":"WHY"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := test.protocol.EncodeError("id", test.err)
			if r.Status != test.status || !strings.Contains(string(r.Body), test.want) {
				t.Errorf("got %d %s, want %d with %s", r.Status, r.Body, test.status, test.want)
			}
		})
	}
}

// FuzzForm sees that no form makes the decoder panic, and that a form that is
// accepted had nothing in it that the struct does not know.
func FuzzForm(f *testing.F) {
	f.Add("Name=a&Filters.1.Name=x&Filters.1.Value.2=1")
	f.Add("Name=a&Filters.member.1.Name=x&Filters.member.1.Value.member.1=1&Device.VolumeSize=9")
	f.Add("Name=a&Filters=&Device=&Since=1e10&UserData=aGk=")
	f.Add("Name=a&Filters.999999999999999999999.Name=x&..=1&.=")
	f.Fuzz(func(t *testing.T, body string) {
		for _, protocol := range []Protocol{EC2(), Query("")} {
			r, err := protocol.Parse(form(body))
			if err != nil {
				continue
			}
			var in input
			if err := r.Decode(&in); err != nil {
				if _, ok := errors.AsType[*Error](err); !ok {
					t.Errorf("%q gives an error that is none of AWS's: %v", body, err)
				}
			}
		}
	})
}

// FuzzJSON is FuzzForm for JSON.
func FuzzJSON(f *testing.F) {
	f.Add(`{"Name":"a","Filters":[{"Name":"x","Value":["1"]}],"Since":1.5,"Device":{"VolumeSize":8}}`)
	f.Add(`{"Name":null,"Filters":[null],"Flag":1}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, body string) {
		r, err := JSON("T").Parse(jsonRequest(body))
		if err != nil {
			return
		}
		var in input
		if err := r.Decode(&in); err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Errorf("%q gives an error that is none of AWS's: %v", body, err)
			}
		}
	})
}

func TestDryRunIsAFlag(t *testing.T) {
	for value, want := range map[string]string{"true": "dry", "True": "dry", "false": "wet", "maybe": "InvalidParameterValue"} {
		r, err := EC2().Parse(form("Action=X", "DryRun="+value))
		got := "wet"
		if e, ok := errors.AsType[*Error](err); ok {
			got = e.Code
		} else if r.DryRun {
			got = "dry"
		}
		if got != want {
			t.Errorf("DryRun=%s is %s, want %s", value, got, want)
		}
	}
}
