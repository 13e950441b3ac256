#!/bin/bash
# Runs the scenario that INPUT_* describe (see action.yml); writes the job's summary, and the outputs.
set -euo pipefail
chaosd=$(realpath "$(dirname "$0")/../../..")/.venv/bin/chaosd
report=${INPUT_REPORT:-chaosd-report}
as_root=()
[[ $EUID -eq 0 ]] || as_root=(sudo --)

words=("--report=$report")
[[ -z ${INPUT_TARGET:-} ]] || words+=("--target=$INPUT_TARGET")
[[ -z ${INPUT_DURATION:-} ]] || words+=("--duration=$INPUT_DURATION")
[[ -z ${INPUT_SEED:-} ]] || words+=("--seed=$INPUT_SEED")
while IFS= read -r line; do
    [[ -z ${line// /} ]] || words+=("--set=$line")
done <<<"${INPUT_SET:-}"

said=$(mktemp)
trap 'rm -f "$said"' EXIT
rm -f "$report/summary.md" # of a run before
status=0
"${as_root[@]}" "$chaosd" run "${words[@]}" -- "$INPUT_SCENARIO" 2>"$said" || status=$?
cat -- "$said" >&2
[[ $EUID -eq 0 || ! -e $report ]] || sudo -- chown -R -- "$(id -u):$(id -g)" "$report"

case $status in
0) verdict=passed ;;
1) verdict=failed ;;
2) verdict=refused ;;
3) verdict=aborted ;;
4) verdict=inconclusive ;;
5) verdict=unsupported ;;
6) verdict=interrupted ;;
*) verdict=not-restored ;;
esac
printf 'verdict=%s\nstatus=%s\n' "$verdict" "$status" >>"$GITHUB_OUTPUT"

if [[ -e $report/summary.md ]]; then
    cat -- "$report/summary.md" >>"$GITHUB_STEP_SUMMARY"
else # it was refused before it began
    printf 'chaosd: **%s**\n\n' "$verdict" >>"$GITHUB_STEP_SUMMARY"
    sed 's/^/    /' "$said" >>"$GITHUB_STEP_SUMMARY"
fi

if [[ $verdict == not-restored || " ${INPUT_FAIL_ON//[,$'\n']/ } " == *" $verdict "* ]]; then
    echo "::error::chaosd: $verdict"
    exit 1
fi
