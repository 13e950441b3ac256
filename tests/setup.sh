#!/bin/bash
# Makes a Debian 12 host ready: system packages, .venv and the compiled probes. Quick when all is there.
#
# Usage: tests/setup.sh demo|test|vm|kernel
#   demo    what chaosd and its demo need
#   test    the same and what the tests and linters need; the first time it fetches a small Debian to boot
#   vm      the same and what booting the test kernels needs
#   kernel  only what building tests/vm/kernel-override.config needs
set -euo pipefail

level=${1:?usage: tests/setup.sh demo|test|vm|kernel}
cd "$(dirname "$0")/.."
cache=${CHAOSD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/chaosd}

demo=(python3 python3-venv ca-certificates make clang llvm libbpf1 libbpf-dev linux-libc-dev
    iproute2 ethtool iputils-ping kmod procps curl)
test=(nginx-light wrk redis-server redis-tools postgresql prometheus docker.io podman busybox-static strace
    socat btrfs-progs e2fsprogs iperf3 git bpftool shellcheck clang-format python3-bpfcc chromium
    fonts-dejavu-core systemd-container mmdebstrap dpkg-dev)
vm=(qemu-system-x86 qemu-system-common busybox-static cpio zstd xz-utils file udev e2fsprogs)
kernel=(build-essential flex bison bc libelf-dev libssl-dev dwarves xz-utils kmod cpio)

case $level in
demo) packages=("${demo[@]}") extra='' ;;
test) packages=("${demo[@]}" "${test[@]}") extra='[dev]' ;;
vm) packages=("${demo[@]}" "${test[@]}" "${vm[@]}") extra='[dev,vm]' ;;
kernel) packages=("${kernel[@]}") ;;
*)
    echo "tests/setup.sh: no such level: $level" >&2
    exit 2
    ;;
esac

missing_packages() {
    local package
    for package in "${packages[@]}"; do
        dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

# Packages of servers start them, unless this file says that they must not (invoke-rc.d(8)).
policy=/usr/sbin/policy-rc.d
forbid_services() {
    if [[ -e $policy && ! -e $policy.chaosd-kept ]]; then
        mv "$policy" "$policy.chaosd-kept"
    fi
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}
permit_services() {
    rm -f "$policy"
    if [[ -e $policy.chaosd-kept ]]; then
        mv "$policy.chaosd-kept" "$policy"
    fi
}

# Nor are they to start at the next boot. A server that was installed before is left as it is.
disable_services() {
    local package
    for package in "$@"; do
        case $package in
        nginx-light) systemctl --quiet disable nginx.service ;;
        redis-server) systemctl --quiet disable redis-server.service ;;
        postgresql) systemctl --quiet disable postgresql.service ;;
        prometheus) systemctl --quiet disable prometheus.service ;;
        docker.io) systemctl --quiet disable docker.service docker.socket containerd.service ;;
        podman)
            systemctl --quiet disable podman.service podman.socket podman-restart.service \
                podman-auto-update.service podman-auto-update.timer
            ;;
        esac
    done
}

install_packages() {
    if [[ $EUID -ne 0 ]]; then
        echo "tests/setup.sh: as root: apt-get install $*" >&2
        exit 1
    fi
    trap permit_services EXIT
    forbid_services
    apt-get update -qq || echo "tests/setup.sh: going on with the package lists of before" >&2
    echo "tests/setup.sh: installing $* (log: $cache/apt.log)"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" >"$cache/apt.log"
    permit_services
    trap - EXIT
    if command -v systemctl >/dev/null; then
        disable_services "$@" || echo "tests/setup.sh: some of $* may start at the next boot" >&2
    fi
}

python_packages() {
    local stamp=.venv/ready-$level
    [[ $stamp -nt pyproject.toml && $stamp -nt tests/setup.sh ]] && return
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "tests/setup.sh: $(command -v python3) is older than 3.11" >&2
        exit 1
    }
    [[ -x .venv/bin/python ]] || python3 -m venv .venv
    .venv/bin/python -m pip install -q --disable-pip-version-check -e ".$extra"
    touch "$stamp"
}

# A small Debian that tests boot with systemd as pid 1; they lay their own files over it, in memory.
tree=$cache/trees/bookworm
in_tree=systemd,systemd-sysv,dbus,python3,iproute2,libbpf1,kmod,procps
debian_tree() {
    [[ $EUID -eq 0 ]] || return 0 # nobody else boots it
    [[ ! -e $tree.made || $(<"$tree.made") != "$in_tree" ]] || return 0
    echo "tests/setup.sh: making a small Debian to boot in tests (log: $cache/trees/log)"
    mkdir -p "$cache/trees"
    rm -rf --one-file-system "$tree" "$tree.made"
    mmdebstrap --mode=root --variant=minbase --include="$in_tree" bookworm "$tree" 2>"$cache/trees/log" || {
        tail -n 3 "$cache/trees/log" >&2
        exit 1
    }
    echo "$in_tree" >"$tree.made"
}

mkdir -p "$cache"
exec 9>"$cache/setup.lock"
flock 9

mapfile -t missing < <(missing_packages)
[[ ${#missing[@]} -eq 0 ]] || install_packages "${missing[@]}"
if [[ $level != kernel ]]; then
    python_packages
    make -s -C probes
fi
case $level in test | vm) debian_tree ;; esac
