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

download() {
    local package
    package=$(real_package "$1")
    [[ -n $package ]] && apt-get download -qq -o APT::Sandbox::User=root "$package"
}

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
6.1) debian linux-image-amd64 ;;
6.12) debian linux-image-6.12-amd64 ;;
override) override ;;
*)
    echo "tests/vm/kernel.sh: no such kernel: $name" >&2
    exit 2
    ;;
esac
