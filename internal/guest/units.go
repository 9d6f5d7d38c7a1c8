package guest

import (
	"context"
	"fmt"
	"regexp"
	"strings"
)

// Enable makes systemd start the unit at every boot. A unit that no target
// wants, because it has no [Install] section, is an error: it would not start.
func Enable(ctx context.Context, m Machine, unit string) error {
	if _, err := Output(ctx, m, "systemctl", "enable", "--", unit); err != nil {
		return fmt.Errorf("enable %s: %w", unit, err)
	}
	result, err := m.Run(ctx, Command{Argv: []string{"systemctl", "is-enabled", "--", unit}, Env: []string{C}})
	if err != nil {
		return fmt.Errorf("enable %s: %w", unit, err)
	}
	switch state := strings.TrimSpace(result.Stdout); state {
	case "enabled", "alias", "indirect":
		return nil
	case "static":
		return fmt.Errorf("enable %s: the unit has no [Install] section, so nothing would start it at boot; add one, such as WantedBy=multi-user.target", unit)
	default:
		return fmt.Errorf("enable %s: systemd says that it is %q", unit, state)
	}
}

// Restart starts the unit of a machine that is booted, or starts it anew.
func Restart(ctx context.Context, m Machine, unit string) error {
	if _, err := Output(ctx, m, "systemctl", "restart", "--", unit); err != nil {
		return fmt.Errorf("start %s: %w%s", unit, err, journal(ctx, m, unit))
	}
	return nil
}

// Active is nil if the unit is up, and else an error with the end of its
// journal. A oneshot unit that has done its work is up.
func Active(ctx context.Context, m Machine, unit string) error {
	out, err := Output(ctx, m, "systemctl", "show", "-p", "Type", "-p", "ActiveState", "-p", "SubState", "-p", "Result", "--", unit)
	if err != nil {
		return fmt.Errorf("check %s: %w", unit, err)
	}
	is := assignments(out)
	if is["ActiveState"] == "active" {
		return nil
	}
	if is["Type"] == "oneshot" && is["ActiveState"] == "inactive" && is["Result"] == "success" {
		return nil
	}
	return fmt.Errorf("%s is %s (%s, result %s), and should be active%s", unit, is["ActiveState"], is["SubState"], is["Result"], journal(ctx, m, unit))
}

// journal is the end of the unit's journal, for an error; what can't be read
// is left out, since the error itself says what matters.
func journal(ctx context.Context, m Machine, unit string) string {
	out, err := Output(ctx, m, "journalctl", "--no-pager", "-o", "cat", "-n", "20", "-u", unit)
	if err != nil || strings.TrimSpace(out) == "" {
		return ""
	}
	return "\nthe end of its journal:\n" + strings.TrimRight(out, "\n")
}

// unitName is what systemd.unit(5) allows, and no option.
var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]*$`)

// IsUnitName tells whether a unit can have such a name.
func IsUnitName(name string) bool { return unitName.MatchString(name) }
