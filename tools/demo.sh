#!/bin/bash
# The main job, shown: a booking service in network namespaces of its own gets slow, chaosd says
# what that did to its clients, and puts everything back.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"

python -m chaosd.demo up --json >build/demo.json &
demo=$!
trap 'kill -INT $demo; wait $demo' EXIT
for _ in {1..100}; do
    [[ -s build/demo.json ]] && break
    sleep 0.1
done
pid=$(python -c 'import json; print(json.load(open("build/demo.json"))["pids"]["booking"])')

echo "A booking service is up (pid $pid). Its answers to others will be 200 ms late, for 12 seconds:"
echo
(
    set -x
    chaosd run network-latency --target "pid:$pid" --duration 12s --set delay=200ms --set jitter=20ms \
        --set url=http://10.66.0.1:8000/health --set from=chaosd-demo-client
)
