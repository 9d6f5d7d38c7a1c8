// Package seal makes a machine generic: it removes what must not be shared
// with the users of its image, and what no two instances of it may have in
// common.
//
// What is removed is the union of what three clean-ups of AWS's remove: the
// guide to sharing AMIs ("Recommendations for creating shared Linux AMIs"), the
// clean-up script of EC2 Image Builder ("Security best practices"), and
// cleanup.sh of the EKS AMIs; and what systemd.io/BUILDING_IMAGES adds to them.
package seal

// An Item is one thing that is cleaned, and that can be kept.
type Item struct {
	// Name is how an option names it.
	Name string
	// Shred, Remove and Empty are patterns for paths: files that are
	// overwritten and removed, files and directories that are removed, and
	// files that are emptied and stay. In Remove, ~/ stands for the home
	// directory of every user.
	Shred, Remove, Empty []string
	// First is shell that is run before, for what patterns can't say; Does
	// says in words what it does.
	First, Does string
	// Why is the reason, for the documentation.
	Why string
}

// Items are cleaned in this order.
var Items = []Item{
	{
		Name:  "ssh-host-keys",
		Shred: []string{"/etc/ssh/ssh_host_*", "/etc/ssh/*_key", "/etc/ssh/*_key.pub"},
		Why:   "whoever has the image could pass for every instance of it; the first boot makes new ones",
	},
	{
		Name:   "authorized-keys",
		Remove: []string{"~/.ssh/authorized_keys", "~/.ssh/authorized_keys2"},
		Why:    "they let in those who baked the image; cloud-init puts in those of the instance's key pair",
	},
	{
		Name:  "machine-id",
		First: machineID,
		Empty: []string{"/etc/machine-id"},
		Does:  "makes `/etc/machine-id` if it is missing, and removes `/var/lib/dbus/machine-id` unless it is a link",
		Why:   "it must differ between instances. Empty, rather than missing, it has systemd make one without taking that boot for the first, which would reset the enabled units to the presets",
	},
	{
		Name:   "random-seed",
		First:  randomSeed,
		Remove: []string{"/var/lib/systemd/random-seed", "/boot/loader/random-seed", "/boot/efi/loader/random-seed", "/efi/loader/random-seed"},
		Does:   "stops `systemd-random-seed.service`, which would write a new one at shutdown",
		Why:    "instances must not begin with the same randomness",
	},
	{
		Name:   "credential-secret",
		Remove: []string{"/var/lib/systemd/credential.secret"},
		Why:    "systemd encrypts credentials of this one machine with it",
	},
	{
		Name:  "cloud-init",
		First: cloudInit,
		Does:  "removes everything in `/var/lib/cloud` but `scripts` and `seed`, which are where an image has its own",
		Why:   "it is what cloud-init knows of the instance that was baked, with its user data, and has it take the next boot for a further one of the same",
	},
	{
		Name:   "cloud-init-users",
		Remove: []string{"/etc/sudoers.d/90-cloud-init-users"},
		Why:    "cloud-init writes it for the default user of each instance",
	},
	{
		Name:   "locale",
		Remove: []string{"/etc/locale.conf"},
		Why:    "cloud-init writes it for each instance",
	},
	{
		Name:   "hostname",
		Remove: []string{"/etc/hostname"},
		Why:    "instances would all bear the name of the one that was baked",
	},
	{
		Name:  "resolv-conf",
		First: resolvConf,
		Does:  "removes `/etc/resolv.conf` if it is a file, not a link, that says that a program generated it",
		Why:   "its name servers are those of the network that was baked in",
	},
	{
		Name:   "leases",
		Remove: []string{"/var/lib/dhclient/*", "/var/lib/dhcp/*.leases", "/var/lib/NetworkManager/*.lease", "/var/lib/NetworkManager/secret_key", "/var/lib/NetworkManager/timestamps", "/etc/udev/rules.d/70-persistent-net.rules"},
		Why:    "they are of the network interfaces of the machine that was baked",
	},
	{
		Name:   "update-stamps",
		Remove: []string{"/etc/.updated", "/var/.updated"},
		Why:    "without them, systemd does at the next boot what is to be done after an update",
	},
	{
		Name:   "mail",
		Remove: []string{"/etc/aliases.db", "/var/lib/misc/postfix.aliasesdb-stamp", "/var/lib/postfix/master.lock", "/var/spool/postfix/pid/master.pid"},
		Why:    "the mail server makes them anew when it starts",
	},
	{
		Name:   "image-builder",
		Remove: []string{"/var/lib/amazon/toe/TOE_*"},
		Why:    "they have the documents and the output of Image Builder's components",
	},
	{
		Name:   "crash-dumps",
		Remove: []string{"/var/lib/systemd/coredump/*", "/var/crash/*"},
		Why:    "they are the memory of processes, secrets included",
	},
	{
		Name:   "histories",
		Remove: []string{"~/.*_history", "~/.lesshst", "~/.viminfo", "~/.wget-hsts", "~/.ssh/known_hosts"},
		Why:    "they tell what was done while the image was made, and may have passwords in them",
	},
	{
		Name:   "package-history",
		Remove: []string{"/var/lib/dnf/history*", "/var/lib/yum/history/*"},
		Why:    "it tells how the image was made; which packages are installed is not in it",
	},
	{
		Name:   "caches",
		Remove: []string{"/var/cache/dnf/*", "/var/cache/yum/*", "~/.cache"},
		Why:    "they take space in every instance, and age",
	},
	{
		Name:  "temporary-files",
		First: temporaryFiles,
		Does:  "removes everything in `/tmp` and `/var/tmp`, and under what is mounted there",
		Why:   "they are leftovers of the bake",
	},
	{
		Name:  "root-password",
		First: rootPassword,
		Does:  "locks the password of root, and removes `/etc/shadow-`, the copy from before",
		Why:   "a password that is the same in all instances is known to all who have the image",
	},
	{
		Name:   "journal",
		First:  journal,
		Remove: []string{"/var/log/journal/*"},
		Does:   "has journald write to memory until the next boot",
		Why:    "it is of the machine that was baked",
	},
	{
		Name:   "logs",
		First:  logs,
		Remove: []string{"/var/log/sa/*", "/var/lib/rsyslog/*"},
		Does:   "stops auditd, rsyslog and systemd-update-utmp, removes rotated logs in `/var/log`, and empties all others: services expect their files, with owners and modes",
		Why:    "they are of the machine that was baked",
	},
}
