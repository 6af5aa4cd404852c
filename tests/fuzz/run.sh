#!/usr/bin/env bash
# Fuzzes every parser, guided by coverage: bash tests/fuzz/run.sh [seconds each] [targets ...]
#
# Prints a line a target: inputs tried, inputs that reached new code, and the input it failed on, if
# any (status 1 then). ALBERT_TF=1 does it on Python 3.7. See tests/fuzz/targets.py for the targets.
set -euo pipefail

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
seconds=${1:-60}
[[ "$seconds" =~ ^[1-9][0-9]*$ ]] || {
    echo "ERROR: '$seconds' is no number of seconds; usage: bash tests/fuzz/run.sh [seconds] [...]"
    exit 1
} >&2
shift $(($# > 0))
ALBERT_EXTRAS="fuzz ${ALBERT_EXTRAS:-}"
. ./env.sh

mkdir -p .tools/fuzz
if [ "$#" = 0 ]; then
    # shellcheck disable=SC2046 # names, one a word
    set -- $("$PYTHON" tests/fuzz/fuzz.py 2>&1 | sed -n 's/.*TARGET one of //; s/,//gp')
fi
failed=0
printf '%-20s %12s %12s  %s\n' target executions "new code" result
for target in "$@"; do
    log=.tools/fuzz/$target.log status=0 result=ok
    "$PYTHON" tests/fuzz/fuzz.py "$target" "$seconds" >"$log" 2>&1 || status=$?
    if [ "$status" != 0 ]; then
        failed=1
        result="FAILED (status $status, see $log)"
    fi
    printf '%-20s %12s %12s  %s\n' "$target" \
        "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
        "$(sed -n 's/^stat::new_units_added: *//p' "$log")" "$result"
done
exit "$failed"
