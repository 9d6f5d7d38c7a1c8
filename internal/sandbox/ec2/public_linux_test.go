package ec2

import (
	"bytes"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/crypto/ssh"
)

// key makes a key pair and gives the private key.
func (w *world) key(name string, kind types.KeyType) ssh.Signer {
	w.Helper()
	made, err := w.CreateKeyPair(w.Context(), &ec2.CreateKeyPairInput{KeyName: &name, KeyType: kind})
	if err != nil {
		w.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey([]byte(*made.KeyMaterial))
	if err != nil {
		w.Fatal(err)
	}
	return signer
}

// securityGroup makes a security group that lets TCP ports in from the CIDR blocks.
func (w *world) securityGroup(name string, port int32, cidrs ...string) string {
	w.Helper()
	made, err := w.CreateSecurityGroup(w.Context(), &ec2.CreateSecurityGroupInput{GroupName: &name, Description: &name})
	if err != nil {
		w.Fatal(err)
	}
	for _, cidr := range cidrs {
		w.allow(*made.GroupId, tcp(port, cidr))
	}
	return *made.GroupId
}

func tcp(port int32, cidr string) types.IpPermission {
	return types.IpPermission{IpProtocol: aws.String("tcp"), FromPort: &port, ToPort: &port, IpRanges: []types.IpRange{{CidrIp: &cidr}}}
}

func (w *world) allow(group string, permission types.IpPermission) {
	w.Helper()
	_, err := w.AuthorizeSecurityGroupIngress(w.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &group, IpPermissions: []types.IpPermission{permission}})
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) disallow(group string, permission types.IpPermission) {
	w.Helper()
	_, err := w.RevokeSecurityGroupIngress(w.Context(), &ec2.RevokeSecurityGroupIngressInput{GroupId: &group, IpPermissions: []types.IpPermission{permission}})
	if err != nil {
		w.Fatal(err)
	}
}

// ask logs in to an instance as soon as that works, and gives what a command prints.
func (w *world) ask(address string, key ssh.Signer, command string) string {
	config := &ssh.ClientConfig{User: "ec2-user", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 30 * time.Second}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		client, err := ssh.Dial("tcp", net.JoinHostPort(address, "22"), config)
		if err != nil && time.Now().Before(deadline) {
			continue
		}
		if err != nil {
			w.Error(err)
			return ""
		}
		defer client.Close()
		session, err := client.NewSession()
		if err != nil {
			w.Error(err)
			return ""
		}
		var said bytes.Buffer
		session.Stderr = &said
		output, err := session.Output(command)
		if err != nil {
			w.Errorf("%s: %v: %s", command, err, &said)
		}
		return string(output)
	}
}

// reach checks that a connection to an instance is made, or that it is not, soon.
func (w *world) reach(address string, want bool, when string) {
	w.Helper()
	patience := 300 * time.Millisecond
	if want {
		patience = 20 * time.Second
	}
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, "22"), patience)
	if err == nil {
		conn.Close()
	}
	if (err == nil) != want {
		w.Errorf("%s a connection to the instance gives %v", when, err)
	}
}

func TestInstancesAreLoggedInToWithTheirKey(t *testing.T) {
	w, base := newRealWorld(t)
	group := w.securityGroup("ssh", 22, "0.0.0.0/0")
	var all sync.WaitGroup
	for _, kind := range []types.KeyType{types.KeyTypeEd25519, types.KeyTypeRsa} {
		key := w.key("key-"+string(kind), kind)
		in := single(base)
		in.KeyName, in.SecurityGroupIds = aws.String("key-"+string(kind)), []string{group}
		id := w.run(in)[0]
		all.Go(func() {
			w.untilRunning(id)
			if got := w.ask(*w.describeInstance(id).PublicIpAddress, key, "id -un && sudo -n id -un"); got != "ec2-user\nroot\n" {
				t.Errorf("login with a key of type %s: %q", kind, got)
			}
		})
	}
	all.Wait()
}

func TestSecurityGroupsDecideWhoReachesAPublicAddress(t *testing.T) {
	w, base := newRealWorld(t)
	group := w.securityGroup("ssh", 22, "10.0.0.0/8")
	in := single(base)
	in.SecurityGroupIds = []string{group}
	id := w.run(in)[0]
	w.untilRunning(id)
	address := *w.describeInstance(id).PublicIpAddress
	w.reach(address, false, "by a rule for other addresses")
	for _, cidr := range []string{"0.0.0.0/0", "127.0.0.1/32"} {
		w.allow(group, tcp(22, cidr))
		w.reach(address, true, "by a rule for "+cidr)
		w.disallow(group, tcp(22, cidr))
		w.reach(address, false, "after the rule was revoked")
	}
	open := w.securityGroup("open", 22, "0.0.0.0/0")
	if _, err := w.ModifyInstanceAttribute(t.Context(), &ec2.ModifyInstanceAttributeInput{InstanceId: &id, Groups: []string{group, open}}); err != nil {
		t.Fatal(err)
	}
	w.reach(address, true, "by a group that was added")

	if _, err := w.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{id}}); err != nil {
		t.Fatal(err)
	}
	w.untilStopped(id)
	if got := w.describeInstance(id).PublicIpAddress; got != nil {
		t.Errorf("a stopped instance has the public address %s", *got)
	}
	w.reach(address, false, "while it is stopped")
	if _, err := w.StartInstances(t.Context(), &ec2.StartInstancesInput{InstanceIds: []string{id}}); err != nil {
		t.Fatal(err)
	}
	w.untilRunning(id)
	next := *w.describeInstance(id).PublicIpAddress
	if next == address {
		t.Errorf("after a start the public address is still %s", next)
	}
	w.reach(next, true, "after it was started")
}
