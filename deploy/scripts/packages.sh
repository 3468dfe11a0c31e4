#!/usr/bin/env bash
# Sourced, not run. need_packages NAME... makes sure that Debian packages are installed and asks apt
# only when one is missing. As another user than root it goes through sudo. Services that a package
# brings along (nginx, prometheus, postgresql, redis-server) are neither started nor enabled, and no
# database cluster is made.

# What compiling the program takes.
# shellcheck disable=SC2034
BUILD_PACKAGES=(meson ninja-build gcc libc6-dev pkg-config libevent-dev libevhtp-dev
    libcurl4-openssl-dev libhiredis-dev libcjson-dev libyaml-dev libpq-dev libssl-dev
    libmimalloc-dev uthash-dev zlib1g-dev)

# What the program is run with: servers, started privately by who needs them.
# shellcheck disable=SC2034
SERVER_PACKAGES=(postgresql redis-server)

missing_packages() {
    local name
    for name in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] ||
            printf '%s\n' "$name"
    done
}

# Runs a command as root, or says what is to be done by hand.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        echo "needs root for: $* (no sudo here; run it as root, then start again)" >&2
        return 1
    fi
}

install_quietly() {
    local policy=/usr/sbin/policy-rc.d made='' log status=0 service
    local no_cluster=/etc/postgresql-common/createcluster.d/postern.conf
    local services=(nginx prometheus prometheus-node-exporter postgresql redis-server pgbouncer)
    local present=()
    log=$(mktemp)
    for service in "${services[@]}"; do
        [ -n "$(missing_packages "$service")" ] || present+=("$service")
    done
    if [ ! -e $policy ]; then
        # 101: "action forbidden by policy", so no maintainer script starts a service.
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null && as_root chmod 755 $policy
        made=1
    fi
    as_root mkdir -p "${no_cluster%/*}" &&
        echo 'create_main_cluster = false' | as_root tee $no_cluster >/dev/null
    { as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            "$@"; } >"$log" 2>&1 </dev/null || status=$?
    [ -z "$made" ] || as_root rm -f $policy
    as_root rm -f $no_cluster
    if [ -d /run/systemd/system ]; then
        for service in "${services[@]}"; do
            case " ${present[*]-} " in *" $service "*) continue ;; esac
            as_root systemctl disable --quiet "$service" 2>/dev/null || true
        done
    fi
    [ $status = 0 ] || tail -n 20 "$log" >&2
    rm -f "$log"
    return $status
}

need_packages() {
    local missing
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || {
        echo "this machine has no apt-get; these Debian packages are needed: ${missing[*]}" >&2
        return 1
    }
    echo "installing ${missing[*]}"
    install_quietly "${missing[@]}" || {
        echo "apt-get could not install: ${missing[*]}" >&2
        return 1
    }
}

# Node of at least version $1 with npm; Debian's is taken only when there is none, since another
# source's nodejs package cannot stand beside Debian's npm.
need_node() {
    local version
    command -v node >/dev/null || need_packages nodejs || return 1
    command -v npm >/dev/null || need_packages npm || return 1
    version=$(node --version)
    version=${version#v}
    [ "${version%%.*}" -ge "$1" ] || {
        echo "node $1 or later is needed; this machine's is $version" >&2
        return 1
    }
}

# build_program DIRECTORY TARGET [MESON OPTION...]: configures if need be and compiles one target
# (`postern`, or `all` with the tests); quiet unless it fails.
build_program() {
    local dir=$1 target=$2 log jobs
    shift 2
    log=$(mktemp)
    jobs=$(nproc)
    if [ -f "$dir/meson-private/coredata.dat" ]; then
        set -- --reconfigure "$@"
    fi
    if meson setup "$dir" "$@" >"$log" 2>&1 && ninja -C "$dir" -j "$jobs" "$target" >>"$log" 2>&1; then
        rm -f "$log"
        return 0
    fi
    # What the compilers said; the whole log when nothing in it looks like that.
    { grep -nE -A 6 '(error|ERROR): |^FAILED: |undefined reference' "$log" || cat "$log"; } |
        head -n 60 >&2
    rm -f "$log"
    return 1
}
