"""The operator's commands as scripts and mistaken people call them: statuses, what is said, what is left behind."""
import os
import subprocess

import pytest
from gateway import binary
from test_accounts import SECRET, bearer, login

CREATE = ("apikey", "create", "--owner", "root", "--name")


@pytest.fixture
def gw(make_gateway, postgres):
    return make_gateway({"JWT_SECRET_KEY": SECRET}, pg=postgres)


def run(gw, *words, stdin=b"", env=None, **kw):
    """A command with the gateway's configuration; names in env with None are taken away."""
    have = {**os.environ, **gw.env, **(env or {})}
    done = subprocess.run([binary(), *words, "--conf", gw.conf_dir], input=stdin, capture_output=True, timeout=120,
                          env={k: v for k, v in have.items() if v is not None}, cwd=gw.dir, **kw)
    assert b"Sanitizer" not in done.stderr and b"runtime error" not in done.stderr, done.stderr
    return done


def ok(gw, *words, **kw):
    done = run(gw, *words, **kw)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def people(postgres):
    return postgres.one("SELECT coalesce(string_agg(user_id, ' ' ORDER BY user_id), '') FROM users")


# --- help and usage -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["serve", "check", "migrate", "health", "keygen", "user", "apikey", "fields", "version",
                                  "help"])
def test_every_command_explains_itself(name):
    for words in ([name, "--help"], [name, "x", "-h"], ["help", name]):
        done = subprocess.run([binary(), *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout.startswith("usage: postern %s" % name), done
        assert not done.stderr
    listed = subprocess.run([binary(), "help"], capture_output=True, text=True, timeout=60).stdout
    assert "postern %-8s" % name in listed


@pytest.mark.parametrize("words", [
    (), ("nonsense",), ("help", "nonsense"), ("keygen", "--hepl"), ("version", "x"), ("fields", "x"), ("serve", "x"),
    ("check", "--conf"), ("user",), ("user", "remove", "x"), ("user", "add"), ("user", "add", "a", "b"),
    ("user", "add", "a", "--team"), ("user", "add", "a", "--rpm", "5"), ("apikey",), ("apikey", "create"),
    ("apikey", "create", "--owner", "a"), ("apikey", "list", "x"), ("apikey", "list", "--budget", "5"),
    ("apikey", "revoke"), ("apikey", "revoke", "x", "--owner", "a"),
    ("apikey", "create", "--owner", "a", "--owner", "b", "--name", "k"), ("migrate",), ("migrate", "sideways"),
    ("migrate", "down"), ("migrate", "down", "0"), ("migrate", "down", "-1"), ("migrate", "status", "--wait"),
    ("migrate", "up", "--to", "999")])
def test_wrong_words_are_2_and_change_nothing(words):
    done = subprocess.run([binary(), *words], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
                          env={"PATH": os.environ["PATH"]}, cwd="/")
    assert done.returncode == 2 and done.stderr and not done.stdout, done


# --- users ----------------------------------------------------------------------------------------------------

def test_what_is_added_can_log_in_and_what_could_not_is_refused(gw, postgres):
    made = ok(gw, "user", "add", "root", "--admin").strip()
    assert login(gw, "root", made).status == 200
    again = run(gw, "user", "add", "root")
    assert again.returncode == 1 and b"there is a user root already" in again.stderr and not again.stdout
    for words in ((".dot",), ("-dash",), ("",), ("\u00e9ric",), ("a b",), ("x" * 65,), ("a\nb",),
                  ("x", "--email", "nope"), ("x", "--team", "no such\x01team"), ("x", "--email", "")):
        assert run(gw, "user", "add", *words).returncode == 2, words
    missing = run(gw, "user", "add", "x", "--team", "nobodys")
    assert missing.returncode == 1 and b"the team" in missing.stderr
    ok(gw, "user", "add", "a:b@c.example", "--email", "a@example.org")
    assert people(postgres) == "a:b@c.example root"


@pytest.mark.parametrize("given, password", [
    (b"a good password\n", "a good password"), (b"of windows, with CR\r\n", "of windows, with CR"),
    (b"no end of a line", "no end of a line"), (b"first line\nsecond line\n", "first line"),
    (b"inside\ra CR stays\n", "inside\ra CR stays"), (b"  blanks stay \n", "  blanks stay "),
    ("\u00fcml\u00e4ute\u20ac".encode() + b"\n", "\u00fcml\u00e4ute\u20ac"), (b"y" * 1024 + b"\r\n", "y" * 1024)])
def test_a_password_from_standard_input_is_taken_as_it_is(gw, given, password):
    assert ok(gw, "user", "add", "anna", "--password-stdin", stdin=given) == ""  # it is not told
    assert login(gw, "anna", password).status == 200
    assert login(gw, "anna", password[:-1]).status == 401


@pytest.mark.parametrize("given", [b"", b"\n", b"short\n", b"y" * 1025, b"y" * 5000 + b"\n", b"in\0side the line\n",
                                   b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\n", "\u00fc".encode() * 7 + b"\n"])
def test_a_password_that_cannot_be_typed_over_http_is_refused(gw, postgres, given):
    refused = run(gw, "user", "add", "anna", "--password-stdin", stdin=given)
    assert refused.returncode == 2 and b"password" in refused.stderr
    assert people(postgres) == ""


def test_a_password_that_nobody_could_read_is_told(gw, postgres):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([binary(), "user", "add", "anna", "--conf", gw.conf_dir], stdout=full,
                              stderr=subprocess.PIPE, env={**os.environ, **gw.env}, timeout=120)
    assert done.returncode == 1 and b"cannot be written" in done.stderr
    assert postgres.one("SELECT target FROM audit_log WHERE action = 'user.create'") == "anna"  # it was done


# --- keys -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("words", [
    ("", ), ("two\nlines",), ("x" * 101,), ("k", "--scopes", ""), ("k", "--scopes", "chat,"), ("k", "--scopes", "all"),
    ("k", "--models", ""), ("k", "--models", "a b"), ("k", "--models", "a,,b"), ("k", "--models", "a\nb"),
    ("k", "--rpm", "0"), ("k", "--rpm", "-1"), ("k", "--rpm", "1e3"), ("k", "--rpm", "99999999999999999999"),
    ("k", "--tpm", "1000000000001"), ("k", "--expires-days", "99999999999999"), ("k", "--expires-days", "3651"),
    ("k", "--budget", "1e3"), ("k", "--budget", "-5"), ("k", "--budget", ".5"), ("k", "--budget", "5."),
    ("k", "--budget", "0.0000000001"), ("k", "--budget", "9999999999"), ("k", "--period", "year")])
def test_an_option_that_would_mean_something_else_is_refused(gw, postgres, words):
    refused = run(gw, *CREATE, *words)
    assert refused.returncode == 2 and refused.stderr.startswith(b"postern: --") and not refused.stdout, refused
    assert postgres.one("SELECT count(*) FROM api_keys") == "0"


def test_a_key_is_made_listed_and_taken_back(gw, postgres):
    ok(gw, "user", "add", "root", "--admin")
    key = ok(gw, *CREATE, "one", "--scopes", "chat, read", "--models", "openai/*, fast", "--rpm", "5", "--tpm", "1000",
             "--budget", "12.5", "--period", "day", "--expires-days", "7").strip()
    assert gw.get("/api/v1/models", headers=bearer(key)).status == 200
    row = postgres.psql("SELECT scopes, models, requests_per_minute, tokens_per_minute, budget_nano_usd, budget_period, "
                        "expires_at::date - now()::date FROM api_keys")
    assert row == [["{chat,read}", "{openai/*,fast}", "5", "1000", "12500000000", "day", "7"]]
    again = run(gw, *CREATE, "one")
    assert again.returncode == 1 and b"already" in again.stderr and not again.stdout
    listed = ok(gw, "apikey", "list", "--owner", "root")
    assert key[:11] in listed and key[11:] not in listed and "valid" in listed and "12.50 USD/day" in listed
    assert run(gw, "apikey", "list", "--owner", "nobody").returncode == 1
    for other in ("", "x' OR 1=1 --", key[:10], "pk-"):
        assert run(gw, "apikey", "revoke", other).returncode == 1, other
    told = ok(gw, "apikey", "revoke", key)  # whoever finds a key has the whole of it
    assert key[:11] in told and key[11:] not in told
    assert "revoked" in ok(gw, "apikey", "list")
    gone = run(gw, "apikey", "revoke", key)
    assert gone.returncode == 1 and key[11:].encode() not in gone.stderr
    assert postgres.psql("SELECT action, target, actor FROM audit_log WHERE action LIKE 'apikey%' ORDER BY id") == [
        ["apikey.create", key[:11], "cli"], ["apikey.revoke", key[:11], "cli"]]


def test_a_long_list_is_a_whole_list(gw, postgres):
    ok(gw, "user", "add", "root")
    postgres.psql("INSERT INTO api_keys (owner_id, name, prefix, key_sha256) SELECT id, 'key ' || n, 'pk-x', "
                  "sha256(n::text::bytea) FROM users, generate_series(1, 2001) n")
    assert len(ok(gw, "apikey", "list").splitlines()) == 2001


# --- the database ---------------------------------------------------------------------------------------------

def test_a_database_that_is_not_there_or_not_to_be_written_is_told(gw, postgres, tmp_path):
    add = ("user", "add", "anna")
    url = tmp_path / "url"
    url.write_text(postgres.url + "\n")
    for env, status, said in (
            ({"DATABASE_URL": None}, 78, b"DATABASE_URL is not set"),
            ({"DATABASE_URL": "mysql://x"}, 78, b"DATABASE_URL: is neither"),
            ({"DATABASE_URL": None, "DATABASE_URL_FILE": "/nowhere"}, 78, b"/nowhere cannot be read"),
            ({"DATABASE_URL_FILE": str(url)}, 78, b"use one of them"),
            ({"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, 1, b"Connection refused")):
        done = run(gw, *add, env=env)
        assert done.returncode == status and said in done.stderr and not done.stdout, done
        assert run(gw, "apikey", "list", env=env).returncode == status
    assert people(postgres) == ""
    postgres.psql("ALTER DATABASE %s SET default_transaction_read_only = on" % postgres.name)
    read_only = run(gw, *add)
    assert read_only.returncode == 1 and b"read-only" in read_only.stderr and not read_only.stdout
    assert run(gw, "apikey", "list").returncode == 0
    postgres.psql("SET default_transaction_read_only = off; ALTER DATABASE %s RESET default_transaction_read_only"
                  % postgres.name)
    ok(gw, *add, env={"DATABASE_URL": None, "DATABASE_URL_FILE": str(url)})
    assert people(postgres) == "anna"
