package fault

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

func parse(t *testing.T, text string) Rule {
	t.Helper()
	rule, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return rule
}

func TestRulesAreRead(t *testing.T) {
	for text, want := range map[string]Rule{
		"*,kind=throttle":                                 {Operations: "*", Kind: Throttle, When: Before, Rate: 1},
		"ec2:*,rate=0.2,kind=error,when=after":            {Operations: "ec2:*", Kind: Error, When: After, Rate: 0.2},
		"ebs:PutSnapshotBlock,kind=stall,nth=3,for=1m30s": {Operations: "ebs:PutSnapshotBlock", Kind: Stall, When: Before, Rate: 1, Nth: 3, For: 90 * time.Second},
		"ec2:Describe*,kind=reset,when=midway,count=2":    {Operations: "ec2:Describe*", Kind: Reset, When: Midway, Rate: 1, Count: 2},
	} {
		rule := parse(t, text)
		if rule != want {
			t.Errorf("%s is read as %+v, want %+v", text, rule, want)
		}
		if again := parse(t, rule.String()); again != want {
			t.Errorf("%s, written as %s, is read as %+v", text, rule, again)
		}
	}
}

func TestRulesThatSayNothingAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "names no operations",
		"RegisterImage,kind=throttle": `"RegisterImage" names no operations; begin with * or SERVICE:OPERATION`,
		"ec2:[,kind=throttle":         "names no operations",
		"*":                           "kind is missing; add one of throttle, error",
		"*,kind=fire":                 `kind "fire" is not known; use one of throttle, error, unavailable, contention, reset, stall or late`,
		"*,kind=throttle,when=after":  `when "after" is not known of kind throttle; use one of before`,
		"*,kind=error,when=midway":    "use one of before or after",
		"*,kind=error,rate=2":         `rate "2" is not from 0 to 1`,
		"*,kind=error,rate=NaN":       `rate "NaN"`,
		"*,kind=error,nth=0":          `nth "0" is not a number from 1 on`,
		"*,kind=error,count=few":      `count "few"`,
		"*,kind=error,nth=2,rate=0.5": "nth picks one call",
		"*,kind=contention":           "contention is an error of Auto Scaling",
		"*,kind=error,for=1s":         "for has no meaning of kind error",
		"*,kind=late":                 "for is missing",
		"*,kind=stall,for=soon":       `for "soon" is not a time`,
		"*,kind=error,kind=reset":     "kind is given twice",
		"*,kind=error,colour=red":     `"colour" is not a setting`,
		"*,":                          "kind is missing",
		"*,kind=error,":               `"" is not a setting`,
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want an error with %q", text, err, want)
		}
	}
}

func TestLateRulesAreAboutWhatCreates(t *testing.T) {
	for pattern, operations := range map[string]map[string]bool{
		"*":     {"ec2:RunInstances": true, "ebs:StartSnapshot": true, "ec2:StartInstances": false, "autoscaling:CreateAutoScalingGroup": false},
		"ec2:*": {"ec2:RegisterImage": true, "ec2:DescribeImages": false, "ebs:StartSnapshot": false},
	} {
		for operation, want := range operations {
			if err := parse(t, pattern+",kind=late,for=1m").Check([]string{operation}); (err == nil) != want {
				t.Errorf("%s of %s gives %v", pattern, operation, err)
			}
		}
	}
}

func TestRulesMustBeAboutAnOperation(t *testing.T) {
	operations := []string{"ec2:RegisterImage", "ebs:StartSnapshot"}
	for pattern, want := range map[string]bool{
		"*": true, "ec2:*": true, "ec2:Register*": true, "*:StartSnapshot": true, "ec2:StartSnapshot": false, "s3:*": false, "ec2:registerimage": false,
	} {
		if err := parse(t, pattern+",kind=error").Check(operations); (err == nil) != want {
			t.Errorf("%s gives %v", pattern, err)
		}
	}
}

// struck gives the numbers of the calls that are struck, of the first n.
func struck(f *Faults, operation string, n int) (numbers []int) {
	for i := range n {
		if _, is := f.Strike(operation); is {
			numbers = append(numbers, i+1)
		}
	}
	return numbers
}

func TestTheSameSeedPicksTheSameCalls(t *testing.T) {
	rule := parse(t, "*,kind=error,rate=0.2")
	alone := struck(New(7, rule), "ec2:RunInstances", 1000)
	if n := len(alone); n < 150 || n > 250 {
		t.Errorf("%d of 1000 calls are struck, want about 200", n)
	}
	mixed := New(7, rule)
	struck(mixed, "ec2:DescribeImages", 10)
	if !slices.Equal(struck(mixed, "ec2:RunInstances", 1000), alone) {
		t.Error("calls of one operation change which of another are struck")
	}
	if slices.Equal(struck(New(8, rule), "ec2:RunInstances", 1000), alone) {
		t.Error("another seed strikes the same calls")
	}
}

func TestNthAndCountAreOfEachOperation(t *testing.T) {
	for text, want := range map[string][]int{
		"ec2:*,kind=error,nth=3":          {3},
		"ec2:*,kind=error,count=2":        {1, 2},
		"ec2:*,kind=error,rate=0":         nil,
		"ebs:StartSnapshot,kind=error":    nil,
		"ec2:RegisterImage,kind=throttle": {1, 2, 3, 4},
	} {
		f := New(1, parse(t, text))
		struck(f, "ec2:DescribeImages", 4)
		if got := struck(f, "ec2:RegisterImage", 4); !slices.Equal(got, want) {
			t.Errorf("%s strikes %v, want %v", text, got, want)
		}
	}
}

func TestTheFirstRuleThatStrikesDecides(t *testing.T) {
	f := New(1, parse(t, "ec2:RegisterImage,kind=reset,nth=1"), parse(t, "*,kind=throttle"))
	for _, want := range []Kind{Reset, Throttle} {
		if rule, _ := f.Strike("ec2:RegisterImage"); rule.Kind != want {
			t.Errorf("struck by %s, want %s", rule, want)
		}
	}
}

func TestContentionIsTheErrorOfAutoScaling(t *testing.T) {
	err := parse(t, "autoscaling:StartInstanceRefresh,kind=contention").Err("autoscaling", "StartInstanceRefresh")
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != "ResourceContention" || e.Status != http.StatusInternalServerError {
		t.Errorf("the error is %v, want ResourceContention with status 500", err)
	}
}
