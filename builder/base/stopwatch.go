package base

import (
	"context"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
)

// Stopwatch adds up how long the stages of a build take. The zero value is
// ready.
type Stopwatch struct {
	took map[string]time.Duration
}

// Of is how long a stage took so far.
func (w *Stopwatch) Of(stage string) time.Duration { return w.took[stage] }

// Start starts the clock of a stage and gives the function that stops it.
func (w *Stopwatch) Start(stage string) (stop func()) {
	if w.took == nil {
		w.took = map[string]time.Duration{}
	}
	began := time.Now()
	return func() { w.took[stage] += time.Since(began) }
}

// Step makes a step count to a stage.
func (w *Stopwatch) Step(stage string, step multistep.Step) multistep.Step {
	return timed{step, w, stage}
}

type timed struct {
	multistep.Step
	watch *Stopwatch
	stage string
}

func (t timed) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	defer t.watch.Start(t.stage)()
	return t.Step.Run(ctx, state)
}
