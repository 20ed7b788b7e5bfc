#!/bin/sh
# Runs a command with a network, mounts, a /run and a process table of its own, as root:
#
#   ESB_HOME=/tmp/one test/support/apart.sh sh -c 'node hack/esb.mjs up; ...; node hack/esb.mjs down'
#
# What there can be only once on a machine (the bridge esb0, the nftables table, ports of the loopback, /run/netns,
# the sockets of shims and the folder of runc) is then there only once for that command, so that local instances run side
# by side. Each needs an ESB_HOME of its own. Control groups stay the machine's: an instance has one of its own by the
# name of its home. There is no way out into the world: build programs and images first (npm test -- programs).
#
# Take the instance down inside. Killed from outside, workers that are frozen can end only once they are thawed.
set -eu
if [ $# -eq 0 ]; then
  echo 'usage: apart.sh COMMAND [ARGUMENT...]' >&2
  exit 2
fi
exec unshare --net --mount --pid --fork --kill-child --propagation private sh -c '
set -e
mount -t proc proc /proc
# What other instances have mounted is copied with everything else; here it would only be in the way, and hold it.
cut -d " " -f 5 /proc/self/mountinfo | grep -E "^/(run|tmp)/" | sort -r | while read -r point; do
  umount -l "$point" 2>/dev/null || true
done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/netns /run/cgroup
# The network devices below /sys are those of the namespace in which it was mounted; the control groups are kept.
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/cgroup /sys/fs/cgroup
umount -R -l /run/cgroup
rmdir /run/cgroup
ip link set lo up
"$@"' sh "$@"
