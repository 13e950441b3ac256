#!/bin/bash
# Makes chaosd ready in the checkout that this action is of; quick where it is. Needs apt, and root or sudo.
set -euo pipefail
root=$(realpath "$(dirname "$0")/../../..")

[[ ! -x $root/.venv/bin/chaosd ]] || exit 0
as_root=()
[[ $EUID -eq 0 ]] || as_root=(sudo --)
"${as_root[@]}" "$root/tests/setup.sh" demo
