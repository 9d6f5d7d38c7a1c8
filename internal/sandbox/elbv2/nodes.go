package elbv2

import (
	"errors"
	"net/netip"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// securityGroups are those of a load balancer: an Application Load Balancer for
// which none are given has the VPC's default group, a Network Load Balancer none
// (CreateLoadBalancer, SecurityGroups; and
// https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-security-groups.html).
func (r *region) securityGroups(kind string, given []string) []string {
	if kind == application && len(given) == 0 {
		return []string{r.fleet.DefaultSecurityGroup()}
	}
	return given
}

// addNodes gives a load balancer a node in each of its subnets. Requests and
// health checks come from their addresses, by their security groups.
func (r *region) addNodes(lb *loadBalancer) error {
	for _, place := range lb.Subnets {
		node, err := r.fleet.AddInterface(place.ID, lb.SecurityGroups)
		if err != nil {
			r.removeNodes(lb)
			return nodeError(err)
		}
		lb.Nodes = append(lb.Nodes, node)
	}
	return nil
}

// nodeError gives an error of EC2's by the name that Elastic Load Balancing has for it.
func nodeError(err error) error {
	var refused *wire.Error
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.Code {
	case "InvalidGroup.NotFound", "InvalidGroupId.Malformed":
		return wire.Errorf("InvalidSecurityGroup", "%s", refused.Message)
	case "InsufficientFreeAddressesInSubnet":
		return wire.Errorf("InvalidSubnet", "%s", refused.Message)
	}
	return err
}

func (r *region) removeNodes(lb *loadBalancer) {
	for _, node := range lb.Nodes {
		r.fleet.RemoveInterface(node.ID)
	}
	lb.Nodes = nil
}

// nodesFor are the addresses that a target group's requests and checks come from.
func (r *region) nodesFor(targetGroup string) []netip.Addr {
	var nodes []netip.Addr
	for _, arn := range r.loadBalancersOf(targetGroup) {
		for _, node := range r.LoadBalancers[arn].Nodes {
			nodes = append(nodes, node.Address)
		}
	}
	return nodes
}

// serve has the plane serve a target group as it is now.
func (s *Service) serve(r *region, tg *targetGroup) { s.plane.Serve(r.spec(s, tg)) }

// relisten opens or shuts listeners to clients after a change of security groups.
func (s *Service) relisten(r *region) {
	for _, l := range r.Listeners {
		// What is open already cannot fail to listen.
		_ = s.listen(r, l)
	}
}
