#!/usr/bin/env bash
# Runs the suites: tests/run.sh [lint] [release] [unit] [fuzz] [integration] [sdk]; none named runs all.
#
# From a bare Debian 12 it installs what it needs, builds with sanitizers into build-asan/ and (suite
# `release`) without into build/, both with warnings as errors. Records of the runners and sanitizer
# reports are kept in tests/out/. The last line is "N passed, N failed"; the exit status is 0 only if
# nothing failed and every suite ran at least one test. A sanitizer report counts as a failure.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=deploy/scripts/packages.sh
. deploy/scripts/packages.sh

ALL=(lint release unit fuzz integration sdk)
OUT=$PWD/tests/out
SAN=$OUT/sanitizer
PYTHON=/usr/bin/python3
PACKAGES=("${BUILD_PACKAGES[@]}" "${SERVER_PACKAGES[@]}" pgbouncer libcmocka-dev clang clang-format
    clang-format-14 libclang-rt-14-dev faketime python3 python3-pytest python3-pytest-xdist nginx-light prometheus
    openssl curl shellcheck procps ca-certificates)
WORKERS=3 # of the integration suite, whose tests mostly wait
passed=0 failed=0

say() {
    printf '== %s\n' "$*"
}

# add PASSED FAILED: from a tally.
add() {
    passed=$((passed + $1))
    failed=$((failed + $2))
    say "$3: $1 passed, $2 failed"
}

count() {
    local counts
    counts=$("$PYTHON" tests/tally.py "$2" "$3") || counts="0 1"
    # shellcheck disable=SC2086
    add $counts "$1"
}

# The runner's own status counts too: a crash after the last test must not pass.
count_with_status() {
    local before=$failed
    count "$2" "$3" "$4"
    if [ "$1" != 0 ] && [ "$before" = "$failed" ]; then
        add 0 1 "$2 (the runner ended with status $1)"
    fi
}

finish() {
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
    exit $?
}

# An obstacle before any suite: one failure, and the end.
give_up() {
    echo "tests/run.sh: $*" >&2
    failed=$((failed + 1))
    finish
}

wants() {
    case " ${suites[*]} " in *" $1 "*) return 0 ;; esac
    return 1
}

# run_pytest NAME DIRECTORY SECONDS [ARGUMENT...]
run_pytest() {
    local name=$1 dir=$2 cap=$3 status=0
    shift 3
    timeout -k 10 "$cap" "$PYTHON" -m pytest -q -p no:cacheprovider -o junit_family=xunit2 \
        -o faulthandler_timeout=120 --junitxml="$OUT/$name.xml" "$@" "$dir" >"$OUT/$name.log" 2>&1 ||
        status=$?
    [ "$status" = 0 ] || tail -n 15 "$OUT/$name.log"
    count_with_status "$status" "$name" pytest "$OUT/$name.xml"
}

run_meson() {
    local name=$1 log=build-asan/meson-logs/testlog.json status=0
    rm -f "$log"
    timeout -k 10 600 meson test -C build-asan --no-rebuild --suite "$name" --num-processes 2 \
        >"$OUT/$name.log" 2>&1 || status=$?
    [ ! -f "$log" ] || cp "$log" "$OUT/$name.json"
    count_with_status "$status" "$name" meson "$OUT/$name.json"
}

suite_lint() {
    run_pytest lint tests/lint 300
}

suite_release() {
    if build_program build postern -Dbuildtype=release --werror && build/postern version >/dev/null; then
        add 1 0 "release build"
    else
        add 0 1 "release build"
    fi
}

suite_unit() {
    run_meson unit
}

suite_fuzz() {
    run_meson fuzz
}

suite_integration() {
    run_pytest integration tests/integration 1400 -n "$WORKERS" --dist loadfile
}

# The vendors' npm packages: the SDK suite runs them, and the stand-in's strictness is checked against
# the types they ship. Installed again only when the lock file has changed.
install_sdks() {
    local stamp=tests/sdk/node_modules/.postern-lock
    cmp -s tests/sdk/package-lock.json $stamp && return
    (cd tests/sdk && npm ci --no-audit --no-fund --loglevel=error) >"$OUT/npm.log" 2>&1 || {
        tail -n 10 "$OUT/npm.log"
        return 1
    }
    cp tests/sdk/package-lock.json $stamp
}

suite_sdk() {
    local status=0
    timeout -k 10 300 tests/sdk/run.sh >"$OUT/sdk.tap" 2>"$OUT/sdk.log" || status=$?
    [ "$status" = 0 ] || tail -n 15 "$OUT/sdk.log"
    count_with_status "$status" sdk tap "$OUT/sdk.tap"
}

sanitizer_reports() {
    local report n=0
    for report in "$SAN"/*; do
        [ -s "$report" ] || continue
        n=$((n + 1))
        echo "sanitizer report $report:"
        head -n 40 "$report"
    done
    [ $n = 0 ] || add 0 $n "sanitizer reports"
}

suites=("$@")
[ $# -gt 0 ] || suites=("${ALL[@]}")
for suite in "${suites[@]}"; do
    case " ${ALL[*]} " in *" $suite "*) ;; *)
        echo "usage: tests/run.sh [${ALL[*]}]" >&2
        exit 2
        ;;
    esac
done

started=$(date +%s)
rm -rf "$OUT"
mkdir -p "$SAN" || exit 1
need_packages "${PACKAGES[@]}" || give_up "packages are missing"
if wants sdk || wants integration; then
    need_node 18 || give_up "node is missing"
    install_sdks || give_up "npm could not install tests/sdk"
fi

export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
export POSTERN_BIN=$PWD/build-asan/postern POSTERN_SANITIZER_LOGS=$SAN
export ASAN_OPTIONS=log_path=$SAN/asan:detect_leaks=1:halt_on_error=1:exitcode=99
export UBSAN_OPTIONS=log_path=$SAN/ubsan:halt_on_error=1:print_stacktrace=1
export LSAN_OPTIONS=log_path=$SAN/lsan

if wants unit || wants fuzz || wants integration || wants sdk; then
    say "building with sanitizers"
    build_program build-asan all -Db_sanitize=address,undefined -Dbuildtype=debugoptimized --werror ||
        give_up "the sanitizer build failed"
fi
for suite in "${suites[@]}"; do
    say "$suite"
    "suite_$suite"
done
sanitizer_reports
say "$(($(date +%s) - started)) s"
finish
