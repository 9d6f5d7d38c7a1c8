package machine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	socket "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// firewall lets through what security groups do. It is a table of nftables in the network's namespace, where
// everything passes:
//
//	forward  from machine to machine
//	output   from the network itself: from nodes, as groups have it, and from the gateway, which is the
//	         sandbox's own way in and is governed at its other end
//	input    to the network itself, which is the metadata service alone; no group governs that
//
// A group has a set with its members and two chains. The chain of what it lets out marks a packet, that of
// what it lets in accepts one that is marked.
type firewall struct {
	namespace *os.File
	gateway   netip.Addr
}

// sockets is held by who uses package nftables, which counts its sets in a variable.
var sockets sync.Mutex

// buffer is the size of the socket's buffers, in bytes. All rules are one message, and each of them is answered.
const buffer = 8 << 20

// apply replaces all rules in one step. Connections that are open go on.
func (f *firewall) apply(groups []Group) error {
	sockets.Lock()
	defer sockets.Unlock()
	conn, err := nftables.New(nftables.WithNetNSFd(int(f.namespace.Fd())), nftables.WithSockOptions(func(c *socket.Conn) error {
		return errors.Join(c.SetReadBuffer(buffer), c.SetWriteBuffer(buffer))
	}))
	if err != nil {
		return fmt.Errorf("reach nftables: %w", err)
	}
	r := newRuleset(conn)
	if err := r.addGroups(groups); err != nil {
		return err
	}
	r.base("forward", nftables.ChainHookForward)
	r.throughGroups("forward", groups)
	r.base("output", nftables.ChainHookOutput)
	r.rule("output", accept, isAddress(sender, f.gateway))
	r.rule("output", accept, isAddress(sender, metadataAddress))
	r.throughGroups("output", groups)
	r.base("input", nftables.ChainHookInput)
	r.rule("input", accept, isAddress(receiver, metadataAddress))
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("change the rules of nftables: %w; it takes Linux with nf_tables and nf_conntrack", err)
	}
	return nil
}

// ruleset is what is to be sent.
type ruleset struct {
	conn   *nftables.Conn
	table  *nftables.Table
	sets   map[string]*nftables.Set // by group
	chains map[string]*nftables.Chain
}

func newRuleset(conn *nftables.Conn) *ruleset {
	table := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "vpc"}
	conn.AddTable(table) // so that there is one to delete
	conn.DelTable(table)
	conn.AddTable(table)
	return &ruleset{conn: conn, table: table, sets: map[string]*nftables.Set{}, chains: map[string]*nftables.Chain{}}
}

// base begins a chain that packets come to, and that drops those it does not accept.
func (r *ruleset) base(name string, hook *nftables.ChainHook) {
	drop := nftables.ChainPolicyDrop
	r.chain(&nftables.Chain{Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter, Policy: &drop})
	r.rule(name, accept, isAnswer)
}

func (r *ruleset) chain(c *nftables.Chain) {
	c.Table = r.table
	r.chains[c.Name] = r.conn.AddChain(c)
}

// rule adds to a chain what is done with packets that match everything.
func (r *ruleset) rule(chain string, action []expr.Any, matches ...[]expr.Any) {
	var all []expr.Any
	for _, match := range matches {
		all = append(all, match...)
	}
	r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: r.chains[chain], Exprs: append(all, action...)})
}

// addGroups adds the sets and chains of groups.
func (r *ruleset) addGroups(groups []Group) error {
	for _, g := range groups {
		var members []nftables.SetElement
		for _, member := range g.Members {
			members = append(members, nftables.SetElement{Key: member.AsSlice()})
		}
		r.sets[g.ID] = &nftables.Set{Table: r.table, Name: g.ID, KeyType: nftables.TypeIPAddr}
		if err := r.conn.AddSet(r.sets[g.ID], members); err != nil {
			return fmt.Errorf("list the members of group %s: %w", g.ID, err)
		}
	}
	for _, g := range groups {
		r.chain(&nftables.Chain{Name: outOf(g)})
		for _, rule := range g.Out {
			r.rule(outOf(g), mark, r.peer(receiver, rule), traffic(rule))
		}
		r.chain(&nftables.Chain{Name: into(g)})
		for _, rule := range g.In {
			r.rule(into(g), accept, r.peer(sender, rule), traffic(rule))
		}
	}
	return nil
}

func outOf(g Group) string { return "out-" + g.ID }
func into(g Group) string  { return "in-" + g.ID }

// throughGroups takes packets first through what their senders' groups let out, then through what their
// receivers' let in.
func (r *ruleset) throughGroups(chain string, groups []Group) {
	for _, g := range groups {
		r.rule(chain, jump(outOf(g)), r.isMember(sender, g.ID))
	}
	r.rule(chain, drop, isUnmarked)
	for _, g := range groups {
		r.rule(chain, jump(into(g)), r.isMember(receiver, g.ID))
	}
}

// end is a side of a connection: where its address is in an IPv4 header.
type end uint32

const (
	sender   end = 12
	receiver end = 16
)

func (e end) address() expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: uint32(e), Len: 4}
}

func isAddress(e end, address netip.Addr) []expr.Any {
	return []expr.Any{e.address(), equal(address.AsSlice())}
}

func (r *ruleset) isMember(e end, group string) []expr.Any {
	return []expr.Any{e.address(), &expr.Lookup{SourceRegister: 1, SetID: r.sets[group].ID, SetName: group}}
}

// peer matches the other side of a rule. A group that is not there has no members.
func (r *ruleset) peer(e end, rule Rule) []expr.Any {
	switch {
	case rule.Peer.IsValid():
		mask := make([]byte, 4)
		binary.BigEndian.PutUint32(mask, ^uint32(0)<<(32-rule.Peer.Bits()))
		return []expr.Any{
			e.address(),
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
			equal(rule.Peer.Masked().Addr().AsSlice()),
		}
	case r.sets[rule.PeerGroup] == nil:
		return isAddress(e, netip.IPv4Unspecified())
	}
	return r.isMember(e, rule.PeerGroup)
}

// traffic matches the protocol, and the ports or the type of ICMP, of a rule.
func traffic(rule Rule) []expr.Any {
	if rule.Protocol == 0 {
		return nil
	}
	match := []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{rule.Protocol})}
	switch {
	case rule.Protocol == unix.IPPROTO_TCP || rule.Protocol == unix.IPPROTO_UDP:
		const destination = 2 // offset of the port
		match = append(match, transport(destination, 2),
			&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: binaryutil.BigEndian.PutUint16(rule.From), ToData: binaryutil.BigEndian.PutUint16(rule.To)})
	case rule.ICMP != nil:
		match = append(match, transport(0, 1), equal([]byte{rule.ICMP.Type}))
		if rule.ICMP.Code != nil {
			match = append(match, transport(1, 1), equal([]byte{*rule.ICMP.Code}))
		}
	}
	return match
}

func transport(offset, length uint32) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: length}
}

func equal(data []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

// word is a number as a register has it.
func word(n uint32) []byte { return binaryutil.NativeEndian.PutUint32(n) }

// allowed is the mark of what may leave its sender.
const allowed = 1

var (
	accept = []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	drop   = []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	mark   = []expr.Any{
		&expr.Immediate{Register: 1, Data: word(allowed)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
		&expr.Verdict{Kind: expr.VerdictReturn},
	}
	isUnmarked = []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: word(allowed)},
	}
	// isAnswer matches what belongs to a connection that was let through, and messages about it.
	isAnswer = []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4, Mask: word(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), Xor: word(0),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: word(0)},
	}
)

func jump(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}
