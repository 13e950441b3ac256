#!/bin/bash
# Prints the path of a kernel image to boot; fetches or builds it first if it is not in the cache.
#
# Usage: tests/vm/kernel.sh 6.1|6.12|override
#
# Debian's kernels are unpacked into the cache and never installed, so the host does not change. The
# override kernel is CHAOSD_OVERRIDE_KERNEL if that is set, else it is built.
set -euo pipefail

name=${1:?usage: tests/vm/kernel.sh 6.1|6.12|override}
here=$(realpath "$(dirname "$0")")
cache=${CHAOSD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/chaosd}/kernels
mkdir -p "$cache"
exec 9>"$cache/$name.lock"
flock 9

# The name of a meta package stays, the package it depends on changes with every update.
real_package() {
    apt-cache depends "$1" 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9]\)/\1/p' | head -n 1
}

fetch() {
    apt-get download -qq -o APT::Sandbox::User=root "$@"
}

download() {
    local package
    package=$(real_package "$1")
    [[ -n $package ]] && fetch "$package"
}

# The headers that bcc compiles against, beside the kernel: modules are looked for there in the guest, too.
headers() (
    local package target=$cache/$name release common work
    release=$(ls "$target/lib/modules")
    common=${release%-amd64}-common
    [[ -e $target/lib/modules/$release/build/include ]] && exit
    work=$(mktemp -d "$cache/fetch.XXXXXX")
    # shellcheck disable=SC2064  # expanded now, while it is known
    trap "rm -rf '$work'" EXIT # of this subshell
    cd "$work"
    fetch "linux-headers-$release" "linux-headers-$common" || {
        echo "tests/vm/kernel.sh: no headers for $release; remove $target to get a newer kernel" >&2
        exit 0
    }
    for package in ./*.deb; do
        dpkg-deb -x "$package" tree
    done
    mkdir -p "$target/usr/src"
    cp -a tree/usr/src/. "$target/usr/src"
    ln -sfn "../../../usr/src/linux-headers-$common" "$target/lib/modules/$release/source"
    ln -sfn "../../../usr/src/linux-headers-$release" "$target/lib/modules/$release/build"
)

debian() {
    local meta=$1 target=$cache/$name work
    if ! compgen -G "$target/boot/vmlinuz-*" >/dev/null; then
        work=$(mktemp -d "$cache/fetch.XXXXXX")
        # shellcheck disable=SC2064  # expanded now, while it is known
        trap "rm -rf '$work'" EXIT
        cd "$work"
        download "$meta" || { apt-get update -qq && download "$meta"; } || {
            echo "tests/vm/kernel.sh: cannot download $meta" >&2
            exit 1
        }
        dpkg-deb -x ./*.deb tree
        depmod -b tree "$(ls tree/lib/modules)"
        rm -rf "$target"
        mv tree "$target"
    fi
    echo "$target"/boot/vmlinuz-*
}

override() {
    local key target
    if [[ -n ${CHAOSD_OVERRIDE_KERNEL:-} ]]; then
        realpath -e "$CHAOSD_OVERRIDE_KERNEL"
        return
    fi
    key=$(sha256sum "$here/kernel-override.config")
    target=$cache/override-${key:0:12}
    if [[ ! -e $target/bzImage ]]; then
        "$here/../setup.sh" kernel >&2
        "$here/build-override-kernel.sh" "$target" >&2
    fi
    echo "$target/bzImage"
}

case $name in
6.1) debian linux-image-amd64 && headers ;;
6.12) debian linux-image-6.12-amd64 ;;
override) override ;;
*)
    echo "tests/vm/kernel.sh: no such kernel: $name" >&2
    exit 2
    ;;
esac
