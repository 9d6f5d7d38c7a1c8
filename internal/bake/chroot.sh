# Furnishes the root directory $1 of an image for a chroot: the kernel's
# filesystems, a /dev without the host's disks, and an empty /run and /tmp in
# memory. All of it is mounts, in the bake's own namespace; the image stays as
# it is.
set -eu
umask 022
cd "$1"

for d in dev proc sys run tmp; do
	if [ -L "$d" ] || [ ! -d "$d" ]; then
		echo "the image has no directory /$d" >&2
		exit 1
	fi
done

mount -n -t sysfs -o ro,nosuid,nodev,noexec sysfs sys

mount -n -t tmpfs -o mode=755,nosuid tmpfs dev
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
ln -s pts/ptmx dev/ptmx
mkdir dev/pts dev/shm
mount -n -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5,nosuid,noexec devpts dev/pts
mount -n -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm

# Scriptlets write the host's name into the image's configuration.
mount -n -t proc -o nosuid,nodev,noexec proc proc
echo localhost >proc/sys/kernel/hostname

# What is written under /proc/sys, and to sysrq-trigger, would reach the host.
mount -n --bind proc/sys proc/sys
mount -n -o remount,bind,ro,nosuid,nodev,noexec proc/sys
if [ -e proc/sysrq-trigger ]; then
	mount -n --bind dev/null proc/sysrq-trigger
fi

mount -n -t tmpfs -o mode=755,nosuid,nodev tmpfs run
mkdir -m 1777 run/lock
mount -n -t tmpfs -o mode=1777,nosuid,nodev tmpfs tmp
