#!/bin/bash
# Runs inside a booted test kernel, as root: makes it look like a host and runs pytest there.
#
# Usage: guest.sh RESULTS       RESULTS/arguments holds pytest's arguments, RESULTS/environment
#                               NAME=VALUE pairs, one a line; RESULTS/status gets the exit status
set -euo pipefail
results=$1

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
export CHAOSD_GUEST=1 # for tests that hit a whole host

# Files of the host come by 9p, where each open is a round trip through an emulated device. What
# Python reads all the time lies on a disk (image.py) and is laid over the same paths.
modprobe -aq virtio_blk ext4 || true # built in, in some kernels
mkdir -p /run/image
mount -o noatime /dev/vda /run/image
while read -r number path; do
    mount --bind "/run/image/$number" "$path"
done </run/image/paths

mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
for controller in cpu cpuset io memory pids; do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
ip link set lo up
modprobe -q tun || true # udev is what makes /dev/net/tun on a host

mapfile -t environment <"$results/environment"
mapfile -t arguments <"$results/arguments"
export "${environment[@]}"
# The chdir of the boot was made before the tree was mounted over it.
cd "$CHAOSD_TREE"
"$CHAOSD_PYTHON" -m pytest "${arguments[@]}" &
while kill -0 $! 2>/dev/null && [[ ! -e $results/over ]]; do
    sleep 1
done
status=124
if [[ -e $results/over ]]; then
    kill -INT $! # interrupted, it still tells what it has seen
    wait $! || true
else
    status=0
    wait $! || status=$?
fi
echo "$status" >"$results/status"
