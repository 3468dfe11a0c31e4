#!/bin/sh
# Every .c and .h file is formatted as .clang-format says (clang-format 14). The .def tables are
# aligned by hand and not looked at. Usage: check_format.sh [ROOT]
set -eu
cd "${1:-$(dirname "$0")/../..}"
tool=$(command -v clang-format-14 || command -v clang-format) || {
    echo "check_format.sh: clang-format-14 is not installed" >&2
    exit 2
}
list=$(mktemp)
trap 'rm -f "$list"' EXIT
for top in gateway handlers providers storage tests; do
    [ -d "$top" ] || continue
    find "$top" -name node_modules -prune -o -name corpus -prune -o -name out -prune -o \
        -type f -name '*.[ch]' -print0
done >"$list"
[ -s "$list" ] || {
    echo "check_format.sh: found no source" >&2
    exit 2
}
xargs -0 "$tool" --style=file --dry-run -Werror <"$list"
