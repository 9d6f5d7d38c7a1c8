package base

import (
	"errors"
	"testing"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
)

func TestResult(t *testing.T) {
	failed := errors.New("no space left")
	for name, test := range map[string]struct {
		state map[string]any
		want  string
	}{
		"nothing":                      {nil, ""},
		"an error that a retry healed": {map[string]any{"error": failed}, ""},
		"halted by an error":           {map[string]any{"error": failed, multistep.StateHalted: true}, "no space left"},
		"halted":                       {map[string]any{multistep.StateHalted: true}, "the build was halted"},
		"cancelled":                    {map[string]any{multistep.StateCancelled: true}, "the build was cancelled"},
		"cancelled with an error":      {map[string]any{"error": failed, multistep.StateCancelled: true}, "no space left"},
	} {
		t.Run(name, func(t *testing.T) {
			state := new(multistep.BasicStateBag)
			for key, value := range test.state {
				state.Put(key, value)
			}
			got := ""
			if err := Result(state); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
