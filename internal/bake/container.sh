# Starts a container, in the control groups named before "--", with the command
# behind it. What systemd-nspawn keeps in /run/systemd stays in the bake's own
# namespace.
set -eu
mkdir -p /run/systemd
mount -n -t tmpfs -o mode=755,nosuid,nodev tmpfs /run/systemd
mount -n -t proc -o nosuid,nodev,noexec proc /proc
while [ "$1" != -- ]; do
	echo 0 >"$1/cgroup.procs"
	shift
done
shift
exec "$@"
