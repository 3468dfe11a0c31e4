#!/usr/bin/env bash
# Prints the rows of SPEC 8: tests/bench/run.sh [--quick] [--check] [--nginx-only] (see README.md here).
set -u -o pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=deploy/scripts/packages.sh
. deploy/scripts/packages.sh

WORK=$PWD/build-bench
need_packages gcc libc6-dev wrk nginx-light python3 curl "${SERVER_PACKAGES[@]}" || exit 1
case " $* " in
*" --nginx-only "*) ;;
*)
    if ! need_packages "${BUILD_PACKAGES[@]}" || ! build_program build postern -Dbuildtype=release; then
        echo "bench: postern could not be built" >&2
        exit 1
    fi
    ;;
esac
mkdir -p "$WORK" || exit 1
for tool in upstream client; do
    gcc -std=gnu11 -O2 -Wall -Wextra -Werror -D_GNU_SOURCE "tests/bench/$tool.c" -o "$WORK/$tool" || exit 1
done
ulimit -n 20000 2>/dev/null || ulimit -n "$(ulimit -Hn)"
exec /usr/bin/python3 tests/bench/bench.py --work "$WORK" --postern "$PWD/build/postern" "$@"
