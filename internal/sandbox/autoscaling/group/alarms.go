package group

import (
	"fmt"
	"time"
)

// The alarms of a refresh
// (https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-rollback.html):
// one that goes off ends the refresh, and one without sufficient data lets it
// replace nothing until there is data. A rollback does not mind them.

// CheckAlarms tells which of the alarms keeps a refresh from starting, and the
// state it is in; "" when none does.
func CheckAlarms(alarms Alarms, names []string) (alarm, state string) {
	for _, name := range names {
		if state := alarms.State(name); state != alarmOK {
			return name, state
		}
	}
	return "", ""
}

// alarmed ends a refresh one of whose alarms has gone off, and reports whether
// it did.
func (g *Group) alarmed(w World, r *Refresh, now time.Time) bool {
	if r.Rollback != nil || r.Status == RefreshCancelling {
		return false
	}
	for _, name := range r.Alarms {
		if w.Alarms.State(name) == alarmRinging {
			g.fail(r, fmt.Sprintf("The CloudWatch alarm %s is in the %s state.", name, alarmRinging), now)
			return true
		}
	}
	return false
}

// dataless is an alarm that has no data, which a refresh has to wait for; "" when
// there is none.
func (r *Refresh) dataless(w World) string {
	if r.Rollback != nil {
		return ""
	}
	name, _ := CheckAlarms(w.Alarms, r.Alarms)
	return name
}
