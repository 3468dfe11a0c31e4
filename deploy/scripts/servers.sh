#!/usr/bin/env bash
# Sourced, not run. Private servers for who tries the program out: a Postgres and a Redis on loopback
# ports, with their data below a folder of the caller's. They end with the caller's `children`.
#
# Uses of the caller: say, die, wait_for, and the array `children`.

# Debian keeps the servers' programs out of the PATH.
pg_program() {
    local found
    found=$(printf '%s\n' /usr/lib/postgresql/*/bin/"$1" | sort -V | tail -n 1)
    [ -x "$found" ] || found=$(command -v "$1") || die "Postgres' $1 is missing"
    printf '%s\n' "$found"
}

# Runs a command as somebody Postgres agrees to: it refuses to be root.
as_postgres() {
    if [ "$(id -u)" = 0 ]; then
        runuser -u postgres -- "$@"
    else
        "$@"
    fi
}

# Where the cluster may live: below $1, or, where user postgres cannot get there, beside it in /var/tmp.
pg_home() {
    local wanted=$1/postgres
    if [ "$(id -u)" = 0 ]; then
        runuser -u postgres -- test -x "$1" || wanted=/var/tmp/postern-$(printf %s "$1" | cksum | cut -d' ' -f1)
        mkdir -p "$wanted" && chown postgres: "$wanted" && chmod 700 "$wanted"
    else
        mkdir -p "$wanted" && chmod 700 "$wanted"
    fi || die "cannot make $wanted"
    printf '%s\n' "$wanted"
}

pg_answers() {
    PGPASSWORD=$2 psql -h 127.0.0.1 -p "$1" -U assistant -d postgres -Atqc 'SELECT 1' >/dev/null 2>&1
}

# start_postgres DIR PORT PASSWORD LOG: role and database `assistant` on 127.0.0.1:PORT.
start_postgres() {
    local home data secret
    home=$(pg_home "$1") || exit 1
    data=$home/data
    if [ ! -e "$data/PG_VERSION" ]; then
        secret=$(mktemp) || die "no room for a file"
        printf '%s\n' "$3" >"$secret"
        [ "$(id -u)" != 0 ] || chown postgres: "$secret"
        (cd / && as_postgres "$(pg_program initdb)" -D "$data" -U assistant --pwfile="$secret" -A scram-sha-256 \
            -E UTF8 --locale=C.UTF-8 >"$4" 2>&1) || die "initdb failed; see $4"
        rm -f "$secret"
    fi
    local server=("$(pg_program postgres)" -D "$data" -p "$2" -c listen_addresses=127.0.0.1
        -c unix_socket_directories= -c max_connections=100)
    # setpriv, not runuser: the child is then the server itself, and ends with our signal
    [ "$(id -u)" != 0 ] || server=(setpriv --reuid=postgres --regid=postgres --init-groups "${server[@]}")
    (cd / && exec "${server[@]}") >>"$4" 2>&1 &
    children+=($!)
    wait_for $! pg_answers "$2" "$3" || die "Postgres did not start: $(tail -n 1 "$4")"
    PGPASSWORD=$3 psql -h 127.0.0.1 -p "$2" -U assistant -d postgres -Atqc \
        "SELECT 1 FROM pg_database WHERE datname = 'assistant'" | grep -q 1 ||
        PGPASSWORD=$3 psql -h 127.0.0.1 -p "$2" -U assistant -d postgres -Atqc \
            'CREATE DATABASE assistant' >>"$4" 2>&1 || die "the database could not be made; see $4"
}

redis_answers() {
    [ "$(redis-cli -h 127.0.0.1 -p "$1" ping 2>/dev/null)" = PONG ]
}

# start_redis DIR PORT LOG: append-only, on 127.0.0.1:PORT.
start_redis() {
    mkdir -p "$1/redis" || die "cannot make $1/redis"
    redis-server --bind 127.0.0.1 --port "$2" --dir "$1/redis" --appendonly yes --save '' \
        --daemonize no >>"$3" 2>&1 &
    children+=($!)
    wait_for $! redis_answers "$2" || die "Redis did not start: $(tail -n 1 "$3")"
}
