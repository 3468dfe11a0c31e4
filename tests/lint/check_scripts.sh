#!/bin/sh
# Every shell script of the tree passes shellcheck. Usage: check_scripts.sh [ROOT]
set -eu
cd "${1:-$(dirname "$0")/../..}"
command -v shellcheck >/dev/null || {
    echo "check_scripts.sh: shellcheck is not installed" >&2
    exit 2
}
list=$(mktemp)
trap 'rm -f "$list"' EXIT
find .ci deploy tests -name node_modules -prune -o -name corpus -prune -o -name out -prune -o \
    -type f \( -name '*.sh' -o -path '.ci/run' \) -print0 >"$list"
[ -s "$list" ] || {
    echo "check_scripts.sh: found no script" >&2
    exit 2
}
# SC2317 (unreachable) does not see functions that are called by a computed name.
xargs -0 shellcheck --external-sources --exclude=SC2317 --severity=info <"$list"
