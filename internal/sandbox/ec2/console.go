package ec2

import (
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

type getConsoleOutputInput struct {
	InstanceId string `wire:",,required"`
	Latest     bool
}

type getConsoleOutputOutput struct {
	InstanceId string
	Output     []byte
	Timestamp  time.Time
}

// getConsoleOutput gives what the machine printed last, at once, whether the
// latest is asked for or not. The latest can be asked for only of instances on
// the Nitro System (GetConsoleOutput).
func (r *region) getConsoleOutput(c *api.Call, in *getConsoleOutputInput) (*getConsoleOutputOutput, error) {
	i, err := r.instance(in.InstanceId)
	if err != nil {
		return nil, err
	}
	c.On(r.arn("instance", i.Id))
	if in.Latest && !instanceTypes[i.Type].nitro() {
		return nil, fail("UnsupportedOperation", "This instance type does not support retrieving the latest console logs. Unsupported instance type: %s", i.Type)
	}
	out := &getConsoleOutputOutput{InstanceId: i.Id, Output: []byte{}, Timestamp: r.now()}
	if console := r.service.runs.consoles[i.Id]; console != nil {
		out.Output, out.Timestamp = console.read()
	}
	return out, nil
}
