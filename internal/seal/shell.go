package seal

// These are what patterns can't say. They run under set -eu, with booted
// telling whether systemd runs.

// machineID keeps a link: both then have the one content.
const machineID = `
if [ ! -e /etc/machine-id ]; then
  : >/etc/machine-id
  chmod 0444 /etc/machine-id
fi
if [ -f /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ]; then
  rm -f /var/lib/dbus/machine-id
fi
`

const randomSeed = `
if [ $booted = yes ]; then
  systemctl stop systemd-random-seed.service
fi
`

const cloudInit = `
if [ -d /var/lib/cloud ]; then
  find /var/lib/cloud -mindepth 1 -maxdepth 1 ! -name scripts ! -name seed -exec rm -rf -- {} +
fi
`

// resolvConf looks at the image's own file, which a bake puts aside while it
// lends the machine the host's.
const resolvConf = `
file=/etc/resolv.conf
if [ -e $file.before-the-bake ] || [ -L $file.before-the-bake ]; then
  file=$file.before-the-bake
fi
if [ -f $file ] && [ ! -L $file ] && grep -qiE '^[#;].*(generated|managed|created) by' $file; then
  rm -f $file
fi
`

// temporaryFiles stays on the filesystems of the two directories. Where
// something is mounted on one, as a tmpfs in a chroot and in a container, the
// image has a directory of its own under it. A copy of the parent's mount shows
// that one; it is mounted in a namespace that ends with the shell in it, so that
// nothing remains to be unmounted.
const temporaryFiles = `
find /tmp /var/tmp -xdev -mindepth 1 -delete
for directory in /tmp /var/tmp; do
  if mountpoint -q $directory; then
    unshare --mount --propagation private sh -euc '
      mount -n --bind "${1%/*}/" "$1"
      covered=$1/${1##*/}
      if [ -d "$covered" ]; then find "$covered" -xdev -mindepth 1 -delete; fi
    ' sh $directory || {
      echo "what the image has in $directory, under what is mounted there, can not be removed; unmount that first, or allow root to mount" >&2
      exit 1
    }
  fi
done
`

// rootPassword finds a password that is locked, or none that could match,
// locked enough.
const rootPassword = `
case $(grep '^root:' /etc/shadow | cut -d: -f2) in
  '!'*|'*'*) ;;
  *) usermod -L root ;;
esac
rm -f /etc/shadow-
`

// journal stops journald where it can't be told to let go, as on Amazon
// Linux 2, so that it does not write its files again.
const journal = `
if [ $booted = yes ] && ! journalctl --relinquish-var 2>/dev/null; then
  systemctl stop systemd-journald.socket systemd-journald-dev-log.socket systemd-journald-audit.socket systemd-journald.service 2>/dev/null || true
fi
`

// logs stops auditd by its own script: its unit refuses a manual stop. Stopping
// systemd-update-utmp writes the shutdown's line in wtmp now rather than later.
// What rotation leaves has a number, a date or the ending of a compressor.
const logs = `
if [ $booted = yes ]; then
  for unit in auditd.service rsyslog.service syslog.socket systemd-update-utmp.service; do
    if systemctl is-active --quiet $unit; then
      systemctl stop $unit 2>/dev/null || service ${unit%.service} stop
    fi
  done
fi
find /var/log -xdev -path /var/log/journal -prune -o -type f \
  \( -name '*.[0-9]' -o -name '*.[0-9][0-9]' -o -name '*-20[0-9][0-9][0-9][0-9][0-9][0-9]*' -o -name '*.gz' -o -name '*.xz' -o -name '*.bz2' -o -name '*.zst' -o -name '*.old' \) \
  -exec rm -f -- {} +
find /var/log -xdev -path /var/log/journal -prune -o -type f -size +0 -exec truncate -s 0 -- {} +
`
