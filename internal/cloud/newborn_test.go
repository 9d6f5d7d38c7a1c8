package cloud

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestANewbornMayAppearUntilItIsSeenOrOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		young, seen := Born(), Born()
		seen.Seen()
		time.Sleep(2 * time.Minute)
		if !young.MayAppear() || seen.MayAppear() {
			t.Errorf("after two minutes it may appear: %t, one that was seen: %t", young.MayAppear(), seen.MayAppear())
		}
		time.Sleep(time.Minute)
		if young.MayAppear() {
			t.Error("after three minutes it may still appear")
		}
		var none *Newborn
		none.Seen()
		if none.MayAppear() {
			t.Error("nothing may appear")
		}
	})
}
