package ec2

import (
	"slices"
	"strconv"
	"time"
)

// marketOptions say how an instance is bought. Without them it is On-Demand.
type marketOptions struct {
	MarketType  string
	SpotOptions *spotOptions
}

// spotOptions are those of a Spot request.
type spotOptions struct {
	BlockDurationMinutes         *int
	InstanceInterruptionBehavior string
	MaxPrice                     string // USD an hour
	SpotInstanceType             string
	ValidUntil                   *time.Time
}

// leastSpotPrice is what a maximum price must exceed (SpotMarketOptions).
const leastSpotPrice = 0.001 // USD an hour

// check refuses what cannot be bought. The sandbox's Spot Instances are of
// one-time requests, which is what they are by default, and are not interrupted.
func (m *marketOptions) check() error {
	if m == nil {
		return nil
	}
	switch m.MarketType {
	case spotLifecycle:
	case "":
		return fail("InvalidParameterCombination", "The parameter InstanceMarketOptions.SpotOptions needs the MarketType 'spot'.")
	default:
		return invalidValue(m.MarketType, "InstanceMarketOptions.MarketType", "The sandbox has the market 'spot' only.")
	}
	o := m.SpotOptions
	if o == nil {
		return nil
	}
	kind := o.SpotInstanceType
	switch {
	case kind == "persistent":
		return fail("UnsupportedOperation", "The sandbox has no persistent Spot requests; leave SpotInstanceType out, or give 'one-time'.")
	case kind != "" && kind != "one-time":
		return invalidValue(kind, "SpotInstanceType", "Expected one of 'one-time', 'persistent'.")
	case !slices.Contains([]string{"", "terminate", "stop", "hibernate"}, o.InstanceInterruptionBehavior):
		return invalidValue(o.InstanceInterruptionBehavior, "InstanceInterruptionBehavior", "Expected one of 'terminate', 'stop', 'hibernate'.")
	case o.InstanceInterruptionBehavior != "" && o.InstanceInterruptionBehavior != "terminate":
		// harmony-one/harmony-ops#285
		return fail("InvalidParameterCombination", "The request with type 'one-time' is not supported when instanceInterruptionBehavior is set to '%s'.", o.InstanceInterruptionBehavior)
	case o.ValidUntil != nil:
		return fail("InvalidParameterCombination", "The parameter ValidUntil is for persistent Spot requests only.") // SpotMarketOptions
	case o.BlockDurationMinutes != nil:
		return fail("UnsupportedOperation", "EC2 no longer sells Spot Instances with a defined duration; leave BlockDurationMinutes out.")
	}
	return checkMaxPrice(o.MaxPrice)
}

func checkMaxPrice(text string) error {
	if text == "" {
		return nil
	}
	if price, err := strconv.ParseFloat(text, 64); err != nil || price < leastSpotPrice {
		return invalidValue(text, "MaxPrice", "It must be more than USD $0.001.")
	}
	return nil
}

func (m *marketOptions) maxPrice() string {
	if m == nil || m.SpotOptions == nil {
		return ""
	}
	return m.SpotOptions.MaxPrice
}

// lifecycle tells how the data has instances bought.
func (d launchData) lifecycle() string {
	if d.InstanceMarketOptions != nil {
		return spotLifecycle
	}
	return onDemandLifecycle
}

// pool is what the instances of a plan take capacity from.
func (p *plan) pool() pool { return pool{p.kind, p.subnet.Zone, p.data.lifecycle()} }

func (i *instance) lifecycle() string { return i.Launch.lifecycle() }

// spotShare is the Spot price of every type in every zone, as a part of the
// On-Demand price.
const spotShare = 0.3

func (t *instanceType) spotPrice() float64 { return spotShare * t.price() }

// planMarket refuses what a Spot Instance cannot be.
func (p *plan) planMarket() error {
	if p.data.InstanceMarketOptions == nil {
		return nil
	}
	if orZero(p.data.DisableApiTermination) {
		return errProtectedSpot
	}
	text := p.data.InstanceMarketOptions.maxPrice()
	if price, err := strconv.ParseFloat(text, 64); err == nil && price < p.kind.spotPrice() {
		return spotPriceTooLow(text, p.kind.spotPrice())
	}
	return nil
}

// errProtectedSpot follows ModifyInstanceAttribute: "You can't enable termination
// protection for Spot Instances".
var errProtectedSpot = fail("InvalidParameterCombination", "Termination protection cannot be enabled for Spot Instances.")

func spotPriceTooLow(offered string, needed float64) error {
	return fail(SpotMaxPriceTooLow, "Your Spot request price of %s is lower than the minimum required Spot request fulfillment price of %s.", offered, dollars(needed))
}

func dollars(price float64) string { return strconv.FormatFloat(price, 'f', 4, 64) }

// newSpotRequest is the Spot request that an instance is bought by.
func (r *region) newSpotRequest(with tags) *resource {
	request := r.newResource("sir", with)
	request.Id = request.Id[:len("sir-")+8] // the ids of Spot requests are still short
	return &request
}

// spotRequests are the Spot requests of the instances that EC2 still shows.
func (r *region) spotRequests() map[string]*resource {
	all := map[string]*resource{}
	for _, i := range r.Instances {
		if i.SpotRequest != nil {
			all[i.SpotRequest.Id] = i.SpotRequest
		}
	}
	return all
}

func (r *region) spotRequest(id string) (*resource, error) {
	if found, ok := seen(r.spotRequests(), id); ok {
		return found, nil
	}
	return nil, fail("InvalidSpotInstanceRequestID.NotFound", "The spot instance request ID '%s' does not exist", id)
}
