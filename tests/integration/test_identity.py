"""Who may ask: CHECKS 28 to 37 against the real program and a real Postgres. Tokens are made here, with
nothing of the gateway's; keys are rows of which only the hash is stored."""
import base64
import hashlib
import hmac
import json
import os
import subprocess
import threading
import time

import pytest
import rawhttp
from front import wait_until
from gateway import AUTH, ROOT, binary

SECRET = "k3Jx9vQ2mT7wLr5yBn8pZc4hGd6fSa1e"
OLD_SECRET = "Zq8Wn3Vb6Mx1Kc9Lj4Hg7Fd2Sa5Po0Iu"
MODELS = "/api/v1/models"  # for users
CIRCUITS = "/api/v1/admin/circuits"  # for administrators
LEEWAY = 30


def b64(data):
    data = data if isinstance(data, bytes) else data.encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(header, payload, secret=SECRET, digest=hashlib.sha256):
    """A compact JWS of texts or of what becomes JSON."""
    parts = [p if isinstance(p, (bytes, str)) else json.dumps(p) for p in (header, payload)]
    text = ".".join(b64(p) for p in parts)
    return text + "." + b64(hmac.new(secret.encode(), text.encode(), digest).digest())


def claims(sub="ada", **more):
    now = time.time()
    return {"sub": sub, "iat": int(now), "exp": int(now) + 3600, **more}


def token(header=None, secret=SECRET, drop=(), **more):
    payload = {k: v for k, v in claims(**more).items() if k not in drop}
    return sign({"alg": "HS256", "typ": "JWT", **(header or {})}, payload, secret)


def bearer(text):
    return {"Authorization": "Bearer " + text}


def status(gw, credential, path=MODELS):
    return gw.get(path, headers=bearer(credential)).status


def quoted(value):
    return "NULL" if value is None else "'%s'" % str(value).replace("'", "''")


def add_user(pg, user_id="ada", role="user", **columns):
    names = ["user_id", "role"] + list(columns)
    values = [user_id, role] + list(columns.values())
    return pg.one("INSERT INTO users (%s) VALUES (%s) RETURNING id" % (
        ", ".join(names), ", ".join(map(quoted, values))))


made = [0]


def add_key(pg, owner, **columns):
    """A new key of the owner; columns as SQL text. Returns the key."""
    key = "pk-" + b64(os.urandom(32))
    made[0] += 1
    row = {"owner_id": owner, "name": "key %d" % made[0], "prefix": key[:11],
           "key_sha256": "\\x" + hashlib.sha256(key.encode()).hexdigest(), **columns}
    pg.psql("INSERT INTO api_keys (%s) VALUES (%s)" % (
        ", ".join(row), ", ".join(map(quoted, row.values()))))
    return key


def secret_env(**more):
    return {"JWT_SECRET_KEY": SECRET, "JWT_SECRET_KEY_PREVIOUS": OLD_SECRET, **more}


@pytest.fixture
def served(make_gateway, postgres):
    """A gateway in front of a database with the user ada."""
    postgres.owner = add_user(postgres)
    gw = make_gateway(pg=postgres, env=secret_env())
    gw.pg = postgres
    return gw


def all_refused(gw, tokens):
    """Every one of them 401, and a good one among them 200."""
    wrong = []
    for what, text in tokens:
        answer = gw.get(MODELS, headers=bearer(text))
        challenge = answer.headers.get("www-authenticate", "")
        if answer.status != 401 or 'error="invalid_token"' not in challenge:
            wrong.append((what, answer.status, challenge))
    assert not wrong, wrong
    assert status(gw, token()) == 200
    gw.alive()


# --- tokens ------------------------------------------------------------------------------------------


def test_check_028_none_is_no_algorithm(served):
    tokens = []
    for name in ("none", "None", "NONE", "nOnE", "noNe"):
        signed = token({"alg": name})
        head = signed.rsplit(".", 1)[0]
        tokens += [(name + " signed", signed), (name + " unsigned", head + "."),
                   (name + " with rubbish", head + ".e30")]
        assert status(served, head) == 401
    all_refused(served, tokens)


def test_check_029_the_algorithm_is_hs256_and_nothing_else(served):
    tokens = [(str(alg), token({"alg": alg}))
              for alg in ("HS384", "HS512", "RS256", "ES256", "PS256", "EdDSA", "hs256", "HS256 ", "",
                          256, None, True, ["HS256"], {"HS256": 1})]
    for name, digest in (("HS384", hashlib.sha384), ("HS512", hashlib.sha512)):
        tokens.append((name + " truly", sign({"alg": name}, claims(), SECRET, digest)))
        tokens.append((name + " as HS256", sign({"alg": "HS256"}, claims(), SECRET, digest)))
    tokens.append(("missing", sign({"typ": "JWT"}, claims())))
    tokens.append(("twice", sign('{"alg":"none","alg":"HS256"}', claims())))
    all_refused(served, tokens)


def test_check_030_a_signature_has_one_spelling(served):
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    good = token()
    head, mac = good.rsplit(".", 1)
    others = [head + "." + mac[:-1] + alphabet[alphabet.index(mac[-1]) ^ bits] for bits in (1, 2, 3)]
    signed = next(t for t in (token(n=i) for i in range(1000)) if "-" in t.rsplit(".", 1)[1])
    standard = signed.rsplit(".", 1)[0] + "." + signed.rsplit(".", 1)[1].replace("-", "+")
    assert status(served, good) == 200 and status(served, signed) == 200
    all_refused(served, [
        ("missing", head + "."), ("cut", good[:-1]), ("longer", good + "A"), ("padded", good + "="),
        ("another key's", head + "." + token(secret="x" * 32).rsplit(".", 1)[1]),
        ("header padded", head.replace(".", "=.", 1) + "." + mac), ("standard alphabet", standard),
        ("blank inside", head + ". " + mac),
        ("payload changed", good.replace(head.split(".")[1], b64(json.dumps(claims("eve")))))
    ] + [("left-over bits", t) for t in others])


def test_check_031_times_are_judged_strictly(served):
    now = int(time.time())
    raw = '{"sub":"ada","iat":%d,"exp":%%s}' % now
    numbers = ['"%d"' % (now + 600), "0", "-1", "-%d" % (now + 600), "1e400", "9223372036854775808",
               '%d,"exp":%d' % (now + 600, now + 600), "null", "[%d]" % (now + 600), "true"]
    all_refused(served, [(n, sign({"alg": "HS256"}, raw % n)) for n in numbers] + [
        ("nbf in the future", token(nbf=now + LEEWAY + 60)), ("no exp", token(drop=["exp"])),
        ("iat in the future", token(iat=now + LEEWAY + 60)), ("nbf a text", token(nbf=str(now)))])
    expired = served.get(MODELS, headers=bearer(token(exp=now - LEEWAY - 5)))
    assert expired.status == 401 and expired.json["type"].endswith(":token-expired")
    assert 'error="invalid_token"' in expired.headers["www-authenticate"]
    assert status(served, token(exp=now + 600.25)) == 200
    assert status(served, token(exp=now - LEEWAY + 20, iat=now - 600)) == 200
    assert status(served, token(nbf=now + LEEWAY - 10)) == 200


def test_check_032_nothing_in_the_header_is_looked_up(served):
    assert status(served, token({"kid": "2026-11-a_1.x"})) == 200
    marker = os.path.join(served.dir, "kid-marker")
    headers = [{"kid": k} for k in (
        "../../../../etc/passwd", marker, "x' OR '1'='1", "'; DROP TABLE users; --", "a\0b", "a" * 4000,
        "|touch " + marker, "", 7, ["a"], "http://127.0.0.1:%d/keys" % served.port)]
    headers += [{"jwk": {"kty": "oct", "k": b64("attacker")}}, {"x5c": ["MIIB"]}, {"b64": False},
                {"jku": "http://127.0.0.1:%d/api/v1/health" % served.port}, {"crit": ["exp"]},
                {"x5u": "http://127.0.0.1:%d/api/v1/health" % served.port}, {"zip": "DEF"}, {"cty": "JWT"}]
    before = served.metrics()
    all_refused(served, [(str(h)[:60], token(h)) for h in headers] + [
        ("signed with the jwk it brings",
         token({"jwk": {"kty": "oct", "k": b64("attacker")}}, secret="attacker"))])
    assert not os.path.exists(marker)
    after = served.metrics()
    for name in ('database_query_duration_seconds_count{operation="%s"}' % o
                 for o in ("keyring_users", "keyring_keys")):
        assert after.get(name, 0) == before.get(name, 0)  # the good one is known already
    assert served.pg.one("SELECT count(*) FROM users") == "1"
    huge = token({"kid": "a" * 10240})
    assert served.get(MODELS, headers=bearer(huge)).status in (401, 431)


def test_check_033_the_payload_is_one_object_with_a_sane_name(served):
    exp = int(time.time()) + 600
    with_sub = '{"sub":%%s,"exp":%d}' % exp
    payloads = ["[]", "null", '"ada"', "7", "", "{}", '[{"sub":"ada","exp":%d}]' % exp,
                "[" * 2000 + "]" * 2000, '{"sub":"ada","exp":%d,"x":%s}' % (exp, "[" * 70 + "]" * 70),
                with_sub % '"ada"' + "x", with_sub % '"ada"' + "\0", with_sub % '"ad\\u0000a"',
                with_sub % '"a\\u000aa"', with_sub % '""', with_sub % "null", with_sub % "1",
                with_sub % ('"%s"' % ("a" * 65)), '{"exp":%d}' % exp, with_sub % '"\\ud800"',
                b'{"sub":"\xff\xfe","exp":%d}' % exp, '{"sub":"eve","sub":"ada","exp":%d}' % exp]
    all_refused(served, [(str(p)[:40], sign({"alg": "HS256"}, p)) for p in payloads])
    deep = sign({"alg": "HS256"}, "[" * 100000 + "]" * 100000)  # 266 KB
    assert served.get(MODELS, headers=bearer(deep)).status in (401, 431)
    served.alive()


def test_check_034_public_tokens(served, make_gateway):
    with open(os.path.join(ROOT, "tests/unit/golden/jws/vectors.json"), encoding="utf-8") as f:
        vectors = json.load(f)
    usable = [v for v in vectors if not set(v["jws"]) - set(map(chr, range(0x21, 0x7f))) and
              v["jws"].count(".") == 2]
    assert len(usable) > 50
    all_refused(served, [(v["id"], v["jws"]) for v in usable])
    # The token of jwt.io: its signature is good, but it never expires. With an end it is a token.
    public = "your-256-bit-secret"
    jwt_io = ("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwia"
              "WF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c")
    gw = make_gateway(env={"JWT_SECRET_KEY": public})
    good = sign({"alg": "HS256", "typ": "JWT"}, {"sub": "1234567890", "name": "John Doe",
                                                "iat": 1516239022, "exp": 4102444800}, public)
    assert status(gw, jwt_io) == 401
    assert status(gw, good) == 200
    assert status(gw, good[:-2]) == 401


def test_check_034_an_empty_key_is_refused_at_start_and_signs_nothing(make_gateway):
    done = subprocess.run([binary(), "check", "--conf", os.path.join(ROOT, "conf")], capture_output=True,
                          text=True, timeout=60, env={"PATH": os.environ["PATH"], "JWT_SECRET_KEY": "",
                                                      "ENVIRONMENT": "production"})
    assert done.returncode == 78 and "jwt_secret" in done.stderr.lower().replace("jwt_secret_key", "jwt_secret")
    gw = make_gateway(env={"JWT_SECRET_KEY": ""})
    assert status(gw, sign({"alg": "HS256"}, claims(), "")) == 401
    assert gw.get(MODELS).status == 200  # the master key needs none


def test_the_previous_secret_is_believed_until_it_is_taken_away(served):
    assert status(served, token(secret=OLD_SECRET)) == 200
    assert status(served, token(secret="another-secret-of-thirty-two-chars")) == 401


def test_a_token_is_what_the_database_says_of_its_user(served):
    pg = served.pg
    add_user(pg, "root", "admin")
    add_user(pg, "gone", disabled=True)
    now = time.time()
    assert served.get(CIRCUITS, headers=bearer(token(sub="root"))).status == 200
    assert served.get(CIRCUITS, headers=bearer(token(role="admin"))).status == 403  # it is not its own judge
    assert status(served, token(sub="gone")) == 401
    assert status(served, token(sub="nobody")) == 401
    assert status(served, token(uid=pg.owner)) == 200
    assert status(served, token(uid="00000000-0000-4000-8000-000000000000")) == 401
    old, new = token(iat=now - 100), token(iat=now + 1)
    pg.psql("UPDATE users SET tokens_valid_from = to_timestamp(%f) WHERE user_id = 'ada'" % now)
    wait_until(lambda: status(served, old) == 401, "tokens from before to be void")
    assert status(served, new) == 200
    pg.psql("UPDATE users SET role = 'admin' WHERE user_id = 'ada'")
    wait_until(lambda: served.get(CIRCUITS, headers=bearer(new)).status == 200, "ada to be administrator")
    pg.psql("UPDATE users SET disabled = true WHERE user_id = 'ada'")
    wait_until(lambda: status(served, new) == 401, "ada to be refused")


def test_one_token_of_a_user_is_revoked_and_not_the_others(served):
    lost, kept = token(jti="lost-one"), token(jti="kept")
    assert [status(served, t) for t in (lost, kept)] == [200, 200]
    served.pg.psql("INSERT INTO revoked_tokens VALUES ('lost-one', now() + interval '1 hour')")
    wait_until(lambda: status(served, lost) == 401, "the token to be refused")
    assert status(served, kept) == 200


# --- keys --------------------------------------------------------------------------------------------


def test_check_035_a_key_is_right_as_a_whole_or_wrong(served):
    key = add_key(served.pg, served.pg.owner)
    assert status(served, key) == 200
    for place in ({"x-api-key": key}, {"x-goog-api-key": key}, bearer(key)):
        assert served.get(MODELS, headers=place).status == 200
    assert served.get(MODELS + "?key=" + key, headers={}).status == 200
    flip = "A" if key[-1] != "A" else "E"  # neither has left-over bits
    wrong = [key[:-1] + flip, key[:3] + ("B" if key[3] != "B" else "C") + key[4:], "sk-" + key[3:],
             "pk_" + key[3:], key.swapcase(), key.upper(), key[:-1], key + "A", key[3:], "pk-"]
    assert [w for w in wrong if status(served, w) != 401] == []
    for end in ("%20", "%00", "%0a", "%3D"):
        assert served.get(MODELS + "?key=" + key + end, headers={}).status in (400, 401), end
    with rawhttp.Raw(served.port) as c:
        c.send(b"GET /api/v1/models HTTP/1.1\r\nHost: a\r\nx-api-key: " + key.encode() + b"\0\r\n\r\n")
        assert c.answer().status in (400, 401)
    assert status(served, key) == 200
    assert key not in served.log() and key[14:] not in served.log()


def test_check_036_two_credentials_are_never_the_stronger_one(served):
    key = add_key(served.pg, served.pg.owner)
    master = AUTH["Authorization"][7:]
    pairs = [(a, b) for a in (key, master, token(), "wrong") for b in (key, master, token(n=1), "wrong")
             if a != b]
    for a, b in pairs:
        for path, headers in (
                (CIRCUITS, {**bearer(a), "x-api-key": b}), (CIRCUITS + "?key=" + b, bearer(a)),
                (CIRCUITS, {"x-api-key": a, "x-goog-api-key": b}), (CIRCUITS + "?key=%s&key=%s" % (a, b), {})):
            answer = served.get(path, headers=headers)
            assert answer.status in (400, 401), (answer.status, a[:6], b[:6])
    with rawhttp.Raw(served.port) as c:
        c.send(rawhttp.head("GET", CIRCUITS, "Authorization: Bearer wrong", "Authorization: Bearer " + master))
        assert c.answer().status in (400, 401)
    assert served.get(MODELS + "?key=" + key, headers=bearer(key)).status == 200  # the same one twice


def test_a_key_opens_what_its_scopes_and_its_owner_allow(served):
    pg = served.pg
    root = add_user(pg, "root", "admin")
    opened = {}
    for scopes in ("{}", "{chat}", "{embeddings}", "{read}", "{write}", "{admin}", "{telepathy}"):
        for who, owner in (("ada", pg.owner), ("root", root)):
            key = bearer(add_key(pg, owner, scopes=scopes))
            opened[scopes, who] = (
                served.chat(headers=key).status, served.get(MODELS, headers=key).status,
                served.get(CIRCUITS, headers=key).status,
                served.post("/v1beta/models/gemini-2.5-flash:embedContent", {}, headers=key).status != 403)
    assert opened["{}", "ada"] == (200, 200, 403, True)
    assert opened["{}", "root"] == (200, 200, 200, True)
    assert opened["{chat}", "ada"] == opened["{chat}", "root"] == (200, 200, 403, False)
    assert opened["{embeddings}", "ada"] == (403, 200, 403, True)
    assert opened["{read}", "root"] == (403, 200, 403, False)
    assert opened["{write}", "root"] == (403, 403, 403, False)
    assert opened["{admin}", "root"] == (403, 403, 200, False)
    assert opened["{admin}", "ada"] == (403, 403, 403, False)
    assert opened["{telepathy}", "root"] == (403, 403, 403, False)


def test_a_key_uses_the_models_it_and_its_team_list(served):
    pg = served.pg
    team = pg.one("INSERT INTO teams (name, models) VALUES ('t', '{openai/*}') RETURNING id")
    narrow = bearer(add_key(pg, pg.owner, models="{openai/gpt-4o-mini}"))
    both = bearer(add_key(pg, pg.owner, models="{openai/gpt-4o-mini,anthropic/*}", team_id=team))
    assert served.chat("openai/gpt-4o-mini", headers=narrow).status == 200
    assert served.chat("openai/gpt-4o", headers=narrow).status == 403
    assert served.chat("openai/gpt-4o-mini", headers=both).status == 200
    assert served.chat("anthropic/claude-sonnet-4-5", headers=both).status in (403, 404)


def test_a_key_expires_by_the_wall_clock(served):
    pg = served.pg
    key = add_key(pg, pg.owner, expires_at=pg.one("SELECT now() + interval '2 seconds'"))
    never = add_key(pg, pg.owner, expires_at="infinity")
    assert status(served, key) == 200
    assert status(served, never) == 200
    wait_until(lambda: status(served, key) == 401, "the key to expire")
    answer = served.get(MODELS, headers=bearer(key))
    assert answer.json["type"].endswith(":token-expired")
    assert status(served, never) == 200


def test_the_last_use_of_a_key_is_written_down(served):
    key = add_key(served.pg, served.pg.owner)
    version = served.pg.one("SELECT version FROM identity_version")
    for _ in range(20):
        assert status(served, key) == 200
    wait_until(lambda: served.pg.one("SELECT count(last_used_at) FROM api_keys") == "1", "the use to be noted")
    assert served.pg.one("SELECT version FROM identity_version") == version  # nobody has to look again
    statements = served.metrics()['database_query_duration_seconds_count{operation="keyring_keys"}']
    assert statements == 1


def test_check_037_a_revoked_key_is_refused_by_every_worker_within_a_second(make_gateway, postgres):
    owner = add_user(postgres)
    gateways = [make_gateway(pg=postgres, env=secret_env(API_WORKERS="4")) for _ in range(2)]
    keys = [add_key(postgres, owner) for _ in range(3)]
    for key in keys:
        for gw in gateways:
            assert [status(gw, key) for _ in range(24)] == [200] * 24  # all workers know it by now
    for key in keys:
        postgres.psql("UPDATE api_keys SET revoked_at = now() WHERE prefix = '%s'" % key[:11])
        # in a second, long before what is known of a key is forgotten (auth.key_cache_s)
        wait_until(lambda: all(status(gw, key) == 401 for gw in gateways for _ in range(24)),
                   "every worker to refuse the key")
    assert [status(gw, token()) for gw in gateways] == [200, 200]


def test_a_new_key_is_known_at_once_even_if_it_was_tried_before(served):
    key = "pk-" + b64(os.urandom(32))
    assert status(served, key) == 401
    served.pg.psql(
        "INSERT INTO api_keys (owner_id, name, prefix, key_sha256) VALUES ('%s', 'late', '%s', sha256('%s'))"
        % (served.pg.owner, key[:11], key))
    wait_until(lambda: status(served, key) == 200, "the key to be known")


# --- floods ------------------------------------------------------------------------------------------


def test_a_thousand_invented_keys_cost_few_statements(served):
    good = add_key(served.pg, served.pg.owner)
    assert status(served, good) == 200
    name = 'database_query_duration_seconds_count{operation="keyring_keys"}'
    before = served.metrics()[name]
    same = "pk-" + b64(b"\1" * 32)
    seen = []

    def ask(n):
        for _ in range(n):
            seen.append(status(served, same))

    threads = [threading.Thread(target=ask, args=(50,)) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert seen == [401] * 400
    assert served.metrics()[name] - before <= 4  # it is forgotten after five seconds at the earliest
    before = served.metrics()[name]
    for rubbish in ("pk-x", "pk-" + "!" * 43, "x" * 46, "a.b.c", "pk-" + "A" * 42):
        assert status(served, rubbish) == 401
    assert served.metrics()[name] == before
    assert status(served, good) == 200


# --- Postgres is away ----------------------------------------------------------------------------------


def check_away(gw, key, user_token):
    """Known ones work, unknown ones are told to come back, the master key needs nobody."""
    for _ in range(5):
        assert status(gw, key) == 200
        assert status(gw, user_token) == 200
        assert gw.chat(headers=bearer(key)).status == 200
    for unknown in ("pk-" + b64(os.urandom(32)), token(sub="nobody")):
        answer = gw.get(MODELS, headers=bearer(unknown))
        assert answer.status == 503, answer.text
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json["type"].endswith(":dependency-unavailable")
    assert status(gw, token(exp=1)) == 401  # that needs no database
    assert status(gw, "pk-rubbish") == 401
    assert gw.get(CIRCUITS).status == 200


def test_known_credentials_outlive_a_database_that_is_down(make_gateway, make_postgres):
    pg = make_postgres().migrate()
    owner = add_user(pg)
    gw = make_gateway(pg=pg, env=secret_env())
    key, late, user_token = add_key(pg, owner), add_key(pg, owner), token()
    assert [status(gw, key), status(gw, user_token)] == [200, 200]
    pg.stop()
    check_away(gw, key, user_token)
    pg.start()
    wait_until(lambda: status(gw, late) == 200, "keys to be looked up again")
    pg.psql("UPDATE api_keys SET revoked_at = now() WHERE prefix = '%s'" % key[:11])
    wait_until(lambda: status(gw, key) == 401, "revocation to arrive again")


def test_known_credentials_outlive_a_database_that_stands_still(make_gateway, make_postgres):
    pg = make_postgres().migrate()
    owner = add_user(pg)
    gw = make_gateway(pg=pg, env=secret_env())
    key, user_token = add_key(pg, owner), token()
    assert [status(gw, key), status(gw, user_token)] == [200, 200]
    pg.freeze()
    try:
        check_away(gw, key, user_token)
    finally:
        pg.thaw()
    wait_until(lambda: status(gw, "pk-" + b64(os.urandom(32))) == 401, "Postgres to be asked again")


def test_what_is_known_is_believed_no_longer_than_key_stale_s(make_gateway, make_postgres):
    pg = make_postgres().migrate()
    owner = add_user(pg)
    gw = make_gateway(pg=pg, env=secret_env(),
                      conf={"gateway.yaml": {"auth.key_cache_s": 1, "auth.key_stale_s": 4}})
    key = add_key(pg, owner)
    assert status(gw, key) == 200
    pg.stop()
    assert status(gw, key) == 200
    wait_until(lambda: status(gw, key) == 503, "the key to be no longer believed")
    pg.start()
    wait_until(lambda: status(gw, key) == 200, "the key to be verified again")


def test_a_database_that_is_down_at_start_is_no_reason_not_to_serve(make_gateway, make_postgres):
    pg = make_postgres().migrate()
    key = add_key(pg, add_user(pg))
    pg.stop()
    gw = make_gateway(pg=pg, env=secret_env())
    assert gw.chat().status == 200  # the master key
    assert status(gw, key) == 503
    assert status(gw, token()) == 503
    assert gw.get("/api/v1/health/live", headers=bearer(key)).status == 200  # probes wait for nobody
    pg.start()
    wait_until(lambda: status(gw, key) == 200, "the key to be known")
    assert status(gw, token()) == 200


def test_without_a_database_a_token_stands_for_itself(make_gateway):
    gw = make_gateway(env=secret_env())
    assert status(gw, token()) == 200
    assert gw.get(CIRCUITS, headers=bearer(token())).status == 403
    assert gw.get(CIRCUITS, headers=bearer(token(role="admin"))).status == 200
    assert status(gw, token(role="god")) == 401
    assert status(gw, "pk-" + b64(os.urandom(32))) == 401


def test_no_secret_reaches_the_logs(served):
    key, user_token = add_key(served.pg, served.pg.owner), token()
    for credential in (key, user_token, key[:-1] + "A", token(secret="x"), token(exp=1)):
        served.get(MODELS, headers=bearer(credential))
        served.get(MODELS + "?key=" + credential, headers={})
        text = served.log() + served.get("/metrics").text
        assert credential not in text and credential[20:] not in text
    assert SECRET not in served.log() and OLD_SECRET not in served.log()
