#!/bin/bash
# Puts chaosd on this host, or into a tree that a package is made of, or takes it away again.
#
# Usage: tools/install.sh stage TREE     all files of it below TREE
#        tools/install.sh install TREE   what is staged there comes here, its socket is started
#        tools/install.sh uninstall      puts back a live run, and takes away what "install" brought;
#                                        configuration, history and group stay
#        tools/install.sh deb FOLDER     a Debian package, which wants nothing from the network; staged
#                                        in FOLDER/root
#
# It runs under the system's Python, with what it depends on beside it in /usr/lib/chaosd.
set -euo pipefail

action=${1:?usage: tools/install.sh stage|install|uninstall|deb}
cd "$(dirname "$0")/.."
python=/usr/bin/python3
lib=/usr/lib/chaosd
package=tools/package

stage() {
    local tree=$1
    rm -rf "$tree"
    install -d "$tree/usr/bin" "$tree$lib" "$tree/etc/chaosd"
    make -s -C probes
    # pip comes from .venv; what it installs is for the Python that will run it
    .venv/bin/python -m pip --python "$python" install -q --disable-pip-version-check --no-compile \
        --root-user-action=ignore --target "$tree$lib" '.[databases,docker]'
    rm -rf "${tree:?}$lib/bin"
    # What root's Python would write there later would be in nobody's list of files.
    "$python" -m compileall -q --invalidation-mode unchecked-hash -s "$tree" "$tree$lib"
    install -m 755 $package/chaosd "$tree/usr/bin/chaosd"
    install -D -m 644 -t "$tree/usr/lib/systemd/system" systemd/*.service systemd/*.socket
    install -D -m 644 systemd/chaosd.sysusers "$tree/usr/lib/sysusers.d/chaosd.conf"
    install -D -m 644 systemd/chaosd.tmpfiles "$tree/usr/lib/tmpfiles.d/chaosd.conf"
    install -D -m 644 -t "$tree/usr/share/doc/chaosd" LICENSE
    install -D -m 644 -t "$tree/usr/share/doc/chaosd/prometheus" docs/prometheus/*
    completion "$tree" bash "$tree/usr/share/bash-completion/completions/chaosd"
    completion "$tree" zsh "$tree/usr/share/zsh/vendor-completions/_chaosd"
    completion "$tree" fish "$tree/usr/share/fish/vendor_completions.d/chaosd.fish"
    install -d "$tree/usr/share/man/man8"
    PYTHONPATH=$tree$lib "$python" -B tools/man_page.py >"$tree/usr/share/man/man8/chaosd.8"
}

completion() {
    install -d "$(dirname "$3")"
    _CHAOSD_COMPLETE=$2_source PYTHONPATH=$1$lib "$python" -B -m chaosd >"$3"
}

need_root() {
    [[ $EUID -eq 0 ]] && return
    echo "tools/install.sh: $action as root" >&2
    exit 1
}

install_here() {
    if dpkg-query -W chaosd >/dev/null 2>&1; then
        echo "tools/install.sh: chaosd is here as a package; apt-get remove chaosd first" >&2
        exit 1
    fi
    if [[ -e $lib ]]; then
        $package/prerm upgrade
        rm -rf "$lib"
    fi
    cp -a --no-preserve=ownership "$1/." /
    $package/postinst configure
    echo "installed; the daemon starts when it is asked for something, such as chaosd run"
}

uninstall_here() {
    [[ ! -e $lib ]] || $package/prerm remove
    rm -rf "$lib" /usr/bin/chaosd /usr/lib/systemd/system/chaosd{,-recover}.service \
        /usr/lib/systemd/system/chaosd.socket /usr/lib/{sysusers,tmpfiles}.d/chaosd.conf \
        /usr/share/doc/chaosd /usr/share/man/man8/chaosd.8 \
        /usr/share/bash-completion/completions/chaosd /usr/share/zsh/vendor-completions/_chaosd \
        /usr/share/fish/vendor_completions.d/chaosd.fish
    rmdir --parents --ignore-fail-on-non-empty /usr/share/{bash-completion/completions,man/man8} \
        /usr/share/{zsh/vendor-completions,fish/vendor_completions.d}
    $package/postrm remove
    echo "removed; /etc/chaosd, /var/lib/chaosd and the group chaosd stay: $package/postrm purge"
}

deb() {
    local folder=$1 tree=$1/root version architecture minor
    stage "$tree"
    version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' chaosd/__init__.py)
    architecture=$(dpkg --print-architecture)
    minor=$("$python" -c 'import sys; print(sys.version_info.minor)')
    install -d "$tree/DEBIAN"
    install -m 755 -t "$tree/DEBIAN" $package/postinst $package/prerm $package/postrm
    sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" \
        -e "s/@MINOR@/$minor/" -e "s/@NEXT@/$((minor + 1))/" \
        -e "s/@SIZE@/$(du -sk --exclude=DEBIAN "$tree" | cut -f1)/" $package/control >"$tree/DEBIAN/control"
    dpkg-deb --root-owner-group -Zgzip --build "$tree" "$folder/chaosd_${version}_$architecture.deb"
    rm -r "$tree/DEBIAN"
}

case $action in
stage) stage "$(realpath -m "${2:?usage: tools/install.sh stage TREE}")" ;;
install)
    need_root
    install_here "${2:?usage: tools/install.sh install TREE}"
    ;;
uninstall)
    need_root
    uninstall_here
    ;;
deb) deb "$(realpath -m "${2:?usage: tools/install.sh deb FOLDER}")" ;;
*)
    echo "tools/install.sh: no such action: $action" >&2
    exit 2
    ;;
esac
