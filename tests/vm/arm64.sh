#!/bin/bash
# Boots Debian's kernel for arm64, with a Debian for arm64, in QEMU, and runs pytest there; by hand, not in CI.
#
# Usage: tests/vm/arm64.sh 6.1|6.12 [PYTEST...]        such as 6.12 tests/host/test_syscall_error.py
#
# Needs: make setup, and the packages qemu-system-arm gcc-aarch64-linux-gnu libc6-dev-arm64-cross mmdebstrap
# cpio. Everything is below $CHAOSD_CACHE/arm64; no package is configured, so that none of arm64 runs here.
set -euo pipefail

kernel=${1:?usage: tests/vm/arm64.sh 6.1|6.12 [PYTEST...]}
shift
cd "$(dirname "$0")/../.."
cache=${CHAOSD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/chaosd}/arm64/$kernel
tree=$cache/tree
mirror=http://deb.debian.org/debian
packages=base-files,base-passwd,bash,coreutils,dash,findutils,grep,hostname,mount,sed,tar,util-linux,python3,iproute2,ethtool,kmod,procps,iputils-ping,strace,socat,curl,e2fsprogs,libbpf1,busybox-static
case $kernel in
6.1) packages+=,linux-image-arm64 ;;
6.12) packages+=,linux-image-6.12-arm64 ;;
*) echo "tests/vm/arm64.sh: no such kernel: $kernel" >&2 && exit 2 ;;
esac

debian() {
    rm -rf "$cache"
    mkdir -p "$cache"
    mmdebstrap --quiet --mode=root --architectures=arm64 --variant=extract --include="$packages" bookworm "$tree" \
        "deb $mirror bookworm main" "deb $mirror-security bookworm-security main"
    for name in passwd group; do # what base-passwd makes of them
        cp "$tree/usr/share/base-passwd/$name.master" "$tree/etc/$name"
    done
    depmod -b "$tree" "$(ls "$tree/lib/modules")"
    .venv/bin/pip freeze --exclude-editable --exclude mypy --exclude ruff --exclude virtme-ng >"$cache/requirements"
    .venv/bin/pip install -q --no-deps --target "$tree/usr/lib/python3/dist-packages" --python-version 3.11 \
        --platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64 --platform manylinux_2_34_aarch64 \
        --only-binary=:all: -r "$cache/requirements"
    init >"$tree/guest"
    chmod 755 "$tree/guest"
    initramfs
    disk "$tree" "$cache/root" 1024
}

disk() { # of a folder, with so many MiB to spare
    touch "$2.new" # which mke2fs would announce
    mke2fs -q -t ext4 -O ^has_journal -m 0 -i 8192 -d "$1" "$2.new" "$(($(du -sm "$1" | cut -f1) * 5 / 4 + $3))M"
    mv "$2.new" "$2"
}

# The kernel has neither the disk nor its file system built in.
initramfs() (
    local made=$cache/initramfs
    mkdir -p "$made"/{dev,proc,root}
    cp "$tree/bin/busybox" "$made"
    modprobe -d "$tree" -S "$(ls "$tree/lib/modules")" --show-depends -a virtio_pci virtio_blk ext4 |
        sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' | while read -r module; do
        name=$(basename "$module" .xz)
        if [[ $module == *.xz ]]; then xz -dc "$module"; else cat "$module"; fi >"$made/$name"
        echo "$name" >>"$made/modules"
    done
    cat >"$made/init" <<'END'
#!/busybox sh
/busybox mount -t devtmpfs dev /dev
while read -r module; do /busybox insmod "/$module"; done </modules
/busybox mount -t ext4 -o noatime /dev/vda /root
/busybox mount --move /dev /root/dev
exec /busybox switch_root /root /guest
END
    chmod 755 "$made/init"
    cd "$made"
    find . | cpio --quiet -o -H newc | gzip -1 >"$cache/initrd"
)

# The first process of the guest: makes it look like a host, as guest.sh does, and runs pytest.
init() {
    cat <<'END'
#!/bin/bash
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 CHAOSD_GUEST=1
while read -r type place; do
    mkdir -p "$place"
    mount -t "$type" "$type" "$place"
done <<'MOUNTS'
proc /proc
sysfs /sys
devpts /dev/pts
tmpfs /dev/shm
tmpfs /run
tmpfs /tmp
cgroup2 /sys/fs/cgroup
bpf /sys/fs/bpf
tracefs /sys/kernel/tracing
MOUNTS
ln -s /proc/self/fd /dev/fd
for controller in cpu cpuset io memory pids; do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
ip link set lo up
modprobe -q tun
mkdir -p /srv
mount -o noatime /dev/vdb /srv
cd /srv
mapfile -t arguments <arguments
python3 -m pytest -p no:cacheprovider "${arguments[@]}"
echo "status $?"
exec busybox poweroff -f
END
}

[[ -e $cache/root ]] || debian
work=$(mktemp -d "$cache/run.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/srv"
git ls-files -z -co --exclude-standard | tar --null -T - -c | tar -x -C "$work/srv"
cp -r chaosd/_probes "$work/srv/chaosd"
aarch64-linux-gnu-gcc -O2 -fPIC -shared -s probes/clock.preload.c -o "$work/srv/chaosd/_probes/clock.so"
printf '%s\n' "${@:-tests/host/test_kernel.py}" >"$work/srv/arguments"
disk "$work/srv" "$work/disk" 256

# As in run.py: the guest's clock counts instructions, so that no time of its is spoiled by what else runs here.
qemu-system-aarch64 -M virt -cpu cortex-a72 -smp 1 -m 2G -icount shift=0,sleep=on -nodefaults -nographic \
    -serial stdio -no-reboot -kernel "$tree"/boot/vmlinuz-* -initrd "$cache/initrd" \
    -append "console=ttyAMA0 loglevel=4 mitigations=off nokaslr random.trust_cpu=on panic=-1" \
    -drive "if=none,id=root,format=raw,snapshot=on,file=$cache/root" -device virtio-blk-pci,drive=root \
    -drive "if=none,id=srv,format=raw,snapshot=on,file=$work/disk" -device virtio-blk-pci,drive=srv \
    -device virtio-rng-pci </dev/null | tee "$work/console"
grep -q '^status 0' "$work/console"
