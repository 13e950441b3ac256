#!/bin/bash
# Builds the kernel in which a kprobe may override a function's return value, which no Debian kernel
# allows, from Debian's own source and the fragment beside this script.
#
# Usage: build-override-kernel.sh DIRECTORY        (leaves DIRECTORY/bzImage and DIRECTORY/config)
#
# Needs: build-essential flex bison bc libelf-dev libssl-dev dwarves xz-utils. About 9 minutes on two
# processors, 3 GiB of disk while it runs. JOBS sets how many processors are used.
set -euo pipefail

package=linux-source-6.12
fragment=$(realpath "$(dirname "$0")")/kernel-override.config
target=${1:?usage: build-override-kernel.sh DIRECTORY}

mkdir -p "$target"
target=$(realpath "$target")
work=$(mktemp -d "$target/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

# _apt may not write below a private directory, and says so at length.
apt-get download -qq -o APT::Sandbox::User=root "$package"
dpkg-deb -x "$package"_*.deb .
rm "$package"_*.deb
tar -xf "usr/src/$package.tar.xz"
rm "usr/src/$package.tar.xz"
cd "$package"

make -s tinyconfig
scripts/kconfig/merge_config.sh -m .config "$fragment" >/dev/null
make -s olddefconfig
for option in BPF_KPROBE_OVERRIDE DEBUG_INFO_BTF NET_SCH_NETEM CGROUP_BPF; do
    grep -q "^CONFIG_$option=y" .config || {
        echo "$0: the configuration lost CONFIG_$option" >&2
        exit 1
    }
done
make -s -j"${JOBS:-$(nproc)}" bzImage

cp .config "$target/config"
# Last and by rename: a bzImage that is there is whole.
cp arch/x86/boot/bzImage "$target/bzImage.new"
mv "$target/bzImage.new" "$target/bzImage"
