#!/usr/bin/env bash
# From a bare Debian 12 to a gateway that answers: installs packages, builds, starts a private Postgres and
# Redis, migrates, serves, does the main job once (a chat answered, one streamed, one failed over; a key
# with a budget made, spent and refused, and what it cost) and keeps serving until Ctrl-C.
#
#     ./deploy/quickstart.sh [--once]        --once: end after the demonstration, exit 0 or 1
#
# Real providers are used for every key that is set: OPENAI_API_KEY, ANTHROPIC_API_KEY, GOOGLE_API_KEY,
# GROQ_API_KEY (or <NAME>_FILE). With none, the stand-in provider of the tests answers. API_PORT
# (default 8765) and API_HOST choose where it listens. Secrets are made once, in var/quickstart.env.
# DATABASE_URL and REDIS_URL, when set, are used instead of servers of our own, whose ports are
# POSTGRES_PORT (5433) and REDIS_PORT (6380).
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=deploy/scripts/packages.sh
. deploy/scripts/packages.sh
# shellcheck source=deploy/scripts/servers.sh
. deploy/scripts/servers.sh

VAR=$PWD/var
ENV_FILE=$VAR/quickstart.env
POSTERN=$PWD/build/postern
HOST=${API_HOST:-127.0.0.1}
PORT=${API_PORT:-8765}
PG_PORT=${POSTGRES_PORT:-5433}
RD_PORT=${REDIS_PORT:-6380}
# provider, variable of its key, model for the demonstration, budget in USD that is soon spent with it
PROVIDERS=("openai OPENAI_API_KEY gpt-4o-mini 0.0003" "anthropic ANTHROPIC_API_KEY claude-haiku-4-5 0.003"
    "google GOOGLE_API_KEY gemini-2.5-flash 0.0015" "groq GROQ_API_KEY llama-3.1-8b-instant 0.00006")
children=()

say() {
    printf '\n\033[1m%s\033[0m\n' "$*"
}

die() {
    echo "quickstart: $*" >&2
    exit 1
}

stop_children() {
    local pid
    for pid in "${children[@]-}"; do
        [ -z "$pid" ] || kill "$pid" 2>/dev/null
    done
    for pid in "${children[@]-}"; do
        [ -z "$pid" ] || wait "$pid" 2>/dev/null
    done
    children=()
}

on_signal() {
    trap '' INT TERM
    echo
    echo "stopping"
    exit 0
}

is_set() {
    local file=${1}_FILE
    [ -n "${!1-}" ] || [ -n "${!file-}" ]
}

make_secrets() {
    local name
    mkdir -p "$VAR/log" || die "cannot create $VAR"
    (umask 077 && touch "$ENV_FILE") || die "cannot write $ENV_FILE"
    for name in POSTERN_MASTER_KEY JWT_SECRET_KEY POSTGRES_PASSWORD; do
        grep -q "^$name=" "$ENV_FILE" ||
            printf '%s=%s\n' "$name" "$(head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n')" \
                >>"$ENV_FILE" || die "cannot write $ENV_FILE"
    done
    is_set POSTERN_MASTER_KEY || POSTERN_MASTER_KEY=$(sed -n 's/^POSTERN_MASTER_KEY=//p' "$ENV_FILE")
    [ -n "${POSTERN_MASTER_KEY-}" ] || POSTERN_MASTER_KEY=$(cat "$POSTERN_MASTER_KEY_FILE") ||
        die "POSTERN_MASTER_KEY_FILE cannot be read"
    export POSTERN_MASTER_KEY
    POSTGRES_PASSWORD=$(sed -n 's/^POSTGRES_PASSWORD=//p' "$ENV_FILE")
}

# Sets DATABASE_URL and REDIS_URL, with servers of our own behind those that nobody gave.
start_servers() {
    mkdir -p "$VAR/log"
    if ! is_set DATABASE_URL; then
        must_be_free 127.0.0.1 "$PG_PORT" POSTGRES_PORT
        start_postgres "$VAR" "$PG_PORT" "$POSTGRES_PASSWORD" "$VAR/log/postgres.log"
        export DATABASE_URL=postgresql://assistant:$POSTGRES_PASSWORD@127.0.0.1:$PG_PORT/assistant
        echo "Postgres on 127.0.0.1:$PG_PORT (role and database assistant)"
    fi
    if ! is_set REDIS_URL; then
        must_be_free 127.0.0.1 "$RD_PORT" REDIS_PORT
        start_redis "$VAR" "$RD_PORT" "$VAR/log/redis.log"
        export REDIS_URL=redis://127.0.0.1:$RD_PORT/0
        echo "Redis on 127.0.0.1:$RD_PORT"
    fi
    export LEDGER_DIR=$VAR/spool
    "$POSTERN" migrate up --env-file "$ENV_FILE" || die "the database could not be migrated"
}

# answers HOST PORT: something accepts connections there.
answers() {
    (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null
}

free_port() {
    /usr/bin/python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

# Waits until `test command` succeeds while process $1 lives; gives up after 20 s.
wait_for() {
    local pid=$1 tries=0
    shift
    until "$@"; do
        kill -0 "$pid" 2>/dev/null || return 1
        tries=$((tries + 1))
        [ $tries -lt 400 ] || return 1
        sleep 0.05
    done
    kill -0 "$pid" 2>/dev/null
}

# The stand-in speaks all dialects on one port, below a prefix for each.
start_standin() {
    local log=$VAR/log/standin.log port base
    /usr/bin/python3 -u tests/support/fake_provider.py --port 0 >"$log" 2>&1 &
    children+=($!)
    wait_for $! grep -q '^listening ' "$log" ||
        die "the stand-in provider did not start: $(tail -n 1 "$log")"
    port=$(sed -n 's/^listening \([0-9]*\).*/\1/p' "$log" | head -n 1)
    base=http://127.0.0.1:$port
    STANDIN=$base
    export OPENAI_API_KEY=sk-standin-openai ANTHROPIC_API_KEY=sk-ant-standin \
        GOOGLE_API_KEY=AIzaStandin GROQ_API_KEY=gsk-standin-groq
    export OPENAI_BASE_URL=$base/openai/v1 ANTHROPIC_BASE_URL=$base/anthropic \
        GOOGLE_BASE_URL=$base/google GROQ_BASE_URL=$base/groq/openai/v1 OLLAMA_BASE_URL=$base/ollama/v1
}

# Sets USED (the provider/model pairs that will answer), BUDGET (for the first of them) and STANDIN (its URL, or
# nothing).
choose_providers() {
    local row provider key model budget
    USED=() STANDIN='' BUDGET=''
    for row in "${PROVIDERS[@]}"; do
        read -r provider key model budget <<<"$row"
        is_set "$key" || continue
        USED+=("$provider/$model")
        BUDGET=${BUDGET:-$budget}
    done
    [ ${#USED[@]} = 0 ] || return 0
    start_standin
    for row in "${PROVIDERS[@]}"; do
        read -r provider key model budget <<<"$row"
        USED+=("$provider/$model")
        BUDGET=${BUDGET:-$budget}
    done
}

ready() {
    curl -fsS --noproxy '*' -o /dev/null --max-time 2 "$1/api/v1/health/ready" 2>/dev/null
}

# Where a server that listens on host $1 is reached from here.
reach() {
    case "$1" in
    0.0.0.0) echo 127.0.0.1 ;;
    ::) echo '[::1]' ;;
    *:*) echo "[$1]" ;;
    *) echo "$1" ;;
    esac
}

# must_be_free HOST PORT VARIABLE
must_be_free() {
    local host
    host=$(reach "$1")
    ! answers "${host//[\[\]]/}" "$2" ||
        die "port $2 is taken; choose another: $3=$(($2 + 5)) ./deploy/quickstart.sh"
}

# start_gateway HOST PORT LOG: returns when it is ready; its process is the last of children.
start_gateway() {
    local host
    host=$(reach "$1")
    API_HOST=$1 API_PORT=$2 "$POSTERN" serve --env-file "$ENV_FILE" >"$3" 2>&1 &
    children+=($!)
    wait_for $! ready "http://$host:$2" || die "postern did not become ready: $(tail -n 1 "$3")"
}

demo() {
    /usr/bin/python3 deploy/scripts/demo.py "$@" || die "the demonstration failed; see $VAR/log"
}

# With the stand-in: OpenAI's side of it is told to answer 503. With real providers: a second Postern
# is started for the moment whose Ollama is a closed port, and the real provider steps in.
demo_failover() {
    local url=$1 port pid last
    if [ -n "$STANDIN" ]; then
        say "3. The same while ${USED[0]%%/*} is down (503 to everything), with a fallback"
        curl -fsS --noproxy '*' -o /dev/null "$STANDIN/_control" -H 'Content-Type: application/json' \
            -d '{"match": {"dialect": "openai"}, "behaviour": {"status": 503}, "repeat": -1}' ||
            die "the stand-in refused to be taken down"
        demo failover "$url" "${USED[0]}" "${USED[1]}"
        curl -fsS --noproxy '*' -o /dev/null -X DELETE "$STANDIN/_control" || die "the stand-in stays down"
        return
    fi
    say "3. The same while a provider is down (an Ollama that is not there), with a fallback"
    port=$(free_port)
    OLLAMA_BASE_URL=http://127.0.0.1:$(free_port) start_gateway 127.0.0.1 "$port" \
        "$VAR/log/failover.log"
    last=$((${#children[@]} - 1))
    pid=${children[$last]}
    demo failover "http://127.0.0.1:$port" ollama/llama3.2 "${USED[0]}"
    kill "$pid" && wait "$pid" 2>/dev/null
    unset "children[$last]"
}

# An administrator, a key of his with a budget, the budget spent, and what the ledger says of it.
demo_budget() {
    local url=$1 model=$2 budget=$3 key
    "$POSTERN" user add admin --admin --env-file "$ENV_FILE" >"$VAR/log/admin.password" 2>"$VAR/log/cli.log" ||
        grep -q 'there is a user admin' "$VAR/log/cli.log" || die "$(tail -n 1 "$VAR/log/cli.log")"
    chmod 600 "$VAR/log/admin.password"
    echo "   postern user add admin --admin"
    echo "   postern apikey create --owner admin --name quickstart-... --budget $budget --scopes chat"
    key=$("$POSTERN" apikey create --owner admin --name "quickstart-$(date +%s%N)" --budget "$budget" \
        --scopes chat --env-file "$ENV_FILE" 2>"$VAR/log/cli.log") || die "$(tail -n 1 "$VAR/log/cli.log")"
    sed 's/^/   /' "$VAR/log/cli.log"
    POSTERN_DEMO_KEY=$key demo budget "$url" "$model"
    echo "   what the ledger says (table provider_calls in Postgres):"
    sleep 1.5 # rows wait up to a second for their batch
    psql "$DATABASE_URL" -c "SELECT to_char(at, 'HH24:MI:SS.MS') AS at, subject, model, status, \
tokens_in AS \"in\", tokens_out AS \"out\", (cost_nano_usd / 1e9)::numeric(12, 9) AS usd FROM provider_calls \
WHERE subject = 'key:${key:0:11}' ORDER BY at" | sed 's/^/   /' || die "the ledger cannot be read"
}

how_to_use() {
    say "Serving on $1 until Ctrl-C (log: var/log/postern.log, secrets: var/quickstart.env)"
    cat <<EOF
  . var/quickstart.env
  curl $1/v1/chat/completions -H "Authorization: Bearer \$POSTERN_MASTER_KEY" \\
    -H 'Content-Type: application/json' \\
    -d '{"model": "${USED[0]}", "messages": [{"role": "user", "content": "Hello"}]}'

  OpenAI SDK: base_url="$1/v1", api_key=<POSTERN_MASTER_KEY of var/quickstart.env>
  Models: ${USED[*]}; all: curl $1/v1/models; metrics: $1/metrics
EOF
}

once=''
case "${1-}" in
'') ;;
--once) once=1 ;;
*)
    echo "usage: deploy/quickstart.sh [--once]" >&2
    exit 2
    ;;
esac
if ! [[ $PORT =~ ^[0-9]{1,5}$ ]] || [ "$PORT" -lt 1 ] || [ "$PORT" -gt 65535 ]; then
    die "API_PORT must be a port number, not '$PORT'"
fi
must_be_free "$HOST" "$PORT" API_PORT
trap stop_children EXIT
trap on_signal INT TERM

say "Packages and build"
need_packages "${BUILD_PACKAGES[@]}" "${SERVER_PACKAGES[@]}" python3 curl ca-certificates ||
    die "packages are missing"
build_program build postern -Dbuildtype=release || die "the build failed"
echo "built $("$POSTERN" version)"
make_secrets
choose_providers
if [ -n "$STANDIN" ]; then
    echo "NO PROVIDER KEY IS SET: every answer below comes from the tests' stand-in provider, not from a"
    echo "model. Set OPENAI_API_KEY, ANTHROPIC_API_KEY, GOOGLE_API_KEY or GROQ_API_KEY for real ones."
else
    echo "providers with a key: ${USED[*]%%/*}"
fi
say "Postgres and Redis"
start_servers
"$POSTERN" check --env-file "$ENV_FILE" || die "the configuration has problems (above)"
start_gateway "$HOST" "$PORT" "$VAR/log/postern.log"
gateway=${children[-1]}
url=http://$(reach "$HOST"):$PORT

say "1. A chat, answered"
demo chat "$url" "${USED[0]}"
say "2. The same, streamed"
demo stream "$url" "${USED[0]}"
demo_failover "$url"
say "4. A key with a budget of $BUDGET USD, spent until it is refused"
demo_budget "$url" "${USED[0]}" "$BUDGET"
[ -z "$once" ] || exit 0
how_to_use "$url"
wait "$gateway" && exit 0
die "postern ended by itself: $(tail -n 1 "$VAR/log/postern.log")"
