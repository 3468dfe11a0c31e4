"""The lints, run over this tree, and the proof for each rule of each lint that it can fail: a small
tree is made with one fault in it and the lint has to name the file and the fault."""
import os
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LINTS = sorted(n for n in os.listdir(HERE) if n.startswith("check_") and n.endswith((".py", ".sh")))


def run_lint(name, root):
    path = os.path.join(HERE, name)
    command = [sys.executable, path] if name.endswith(".py") else ["sh", path]
    done = subprocess.run(command + [str(root)], capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def plant(root, files):
    for path, text in files.items():
        full = root / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_text(text)
    return root


def assert_fails(name, root, *words):
    code, out = run_lint(name, root)
    assert code == 1, out
    for word in words:
        assert word in out


def assert_passes(name, root):
    code, out = run_lint(name, root)
    assert code == 0, out


@pytest.mark.parametrize("name", LINTS)
def test_the_tree_passes(name):
    code, out = run_lint(name, ROOT)
    assert code == 0, out[-8000:]


# --- includes ----------------------------------------------------------------------------------

HEADERS = {h: "#pragma once\n" for h in (
    "gateway/core/arena.h", "gateway/http/request.h", "gateway/middleware/cors.h",
    "storage/cache.h", "providers/breaker.h", "handlers/chat.h", "gateway/cli.h")}


def test_includes_of_a_clean_tree_pass(tmp_path):
    plant(tmp_path, HEADERS)
    plant(tmp_path, {
        "gateway/main.c": "".join('#include "%s"\n' % h for h in HEADERS),
        "gateway/http/server.c": "#include <evhtp.h>\n",
        "providers/transport.c": "#include <curl/curl.h>\n",
        "providers/transport_private.h": "#include <curl/curl.h>\n",
        "storage/pg.c": "#include <libpq-fe.h>\n",
        "storage/redis.c": "#include <hiredis/async.h>\n",
        "gateway/middleware/identify.c": '#include "storage/cache.h"\n',
        "gateway/serve.c": '#include "handlers/chat.h"\n#include "gateway/serve.h"\n',
        "gateway/serve.h": '#include "gateway/http/request.h"\n',
        "tests/unit/test_arena.c": '#include "gateway/core/arena.h"\n#include <cmocka.h>\n'})
    assert_passes("check_includes.py", tmp_path)


@pytest.mark.parametrize("source, header", [
    ("gateway/core/a.c", "gateway/http/request.h"),
    ("gateway/core/a.c", "storage/cache.h"),
    ("storage/a.c", "providers/breaker.h"),
    ("storage/a.c", "gateway/http/request.h"),
    ("providers/a.c", "storage/cache.h"),
    ("providers/dialect/a.c", "gateway/http/request.h"),
    ("providers/a.h", "handlers/chat.h"),
    ("gateway/http/a.c", "gateway/middleware/cors.h"),
    ("gateway/http/a.c", "providers/breaker.h"),
    ("gateway/http/a.c", "storage/cache.h"),
    ("gateway/middleware/a.c", "providers/breaker.h"),
    ("gateway/middleware/a.c", "handlers/chat.h"),
    ("handlers/a.c", "gateway/cli.h"),
])
def test_an_include_against_the_direction_fails(tmp_path, source, header):
    plant(tmp_path, HEADERS)
    plant(tmp_path, {source: '\n#include "%s"\n' % header})
    assert_fails("check_includes.py", tmp_path, source + ":2:", header)


@pytest.mark.parametrize("source, header", [
    ("handlers/a.c", "evhtp.h"),
    ("gateway/http/request.c", "evhtp/evhtp.h"),
    ("providers/provider.c", "curl/curl.h"),
    ("providers/transport.h", "curl/multi.h"),
    ("gateway/http/server.h", "evhtp.h"),
    ("gateway/http/serverless.c", "evhtp.h"),
    ("storage/keys.c", "libpq-fe.h"),
    ("storage/keys.c", "postgresql/libpq-fe.h"),
    ("storage/cache.c", "hiredis/hiredis.h"),
])
def test_a_library_outside_its_one_file_fails(tmp_path, source, header):
    plant(tmp_path, {source: "#include <%s>\n" % header})
    assert_fails("check_includes.py", tmp_path, source + ":1:", header)


def test_an_include_not_written_from_the_root_fails(tmp_path):
    plant(tmp_path, HEADERS)
    plant(tmp_path, {"gateway/core/a.c": '#include "arena.h"\n'})
    assert_fails("check_includes.py", tmp_path, "gateway/core/a.c:1:", "from the root")


def test_an_own_header_in_angle_brackets_fails(tmp_path):
    plant(tmp_path, HEADERS)
    plant(tmp_path, {"gateway/core/a.c": "#include <gateway/core/arena.h>\n"})
    assert_fails("check_includes.py", tmp_path, "gateway/core/a.c:1:", "quotes")


def test_a_stem_used_twice_fails(tmp_path):
    plant(tmp_path, {"storage/usage.c": "\n", "handlers/usage.c": "\n"})
    assert_fails("check_includes.py", tmp_path, "usage", "storage/")


def test_a_source_outside_the_layers_fails(tmp_path):
    plant(tmp_path, {"gateway/extra/a.c": "\n"})
    assert_fails("check_includes.py", tmp_path, "gateway/extra/a.c", "no layer")


def test_an_include_in_a_comment_is_none(tmp_path):
    plant(tmp_path, {"gateway/core/a.c": "/*\n#include <evhtp.h>\n*/\n// #include <evhtp.h>\n"})
    assert_passes("check_includes.py", tmp_path)


# --- format and scripts ------------------------------------------------------------------------

def test_badly_formatted_source_fails_and_a_def_table_is_left_alone(tmp_path):
    style = open(os.path.join(ROOT, ".clang-format"), encoding="utf-8").read()
    plant(tmp_path, {".clang-format": style, "gateway/core/a.c": "int a(void)\n{\n    return 1;\n}\n",
                     "gateway/core/a.def": "X( a,b )\n"})
    assert_passes("check_format.sh", tmp_path)
    plant(tmp_path, {"gateway/core/a.c": "int a( void ) {\n  return 1; }\n"})
    code, out = run_lint("check_format.sh", tmp_path)
    assert code != 0 and "gateway/core/a.c:1" in out


def test_no_source_at_all_is_not_well_formatted(tmp_path):
    assert run_lint("check_format.sh", tmp_path)[0] == 2


def test_a_careless_script_fails(tmp_path):
    plant(tmp_path, {"tests/a.sh": '#!/bin/sh\necho "$1"\n', "deploy/b.sh": "#!/bin/sh\ntrue\n",
                     ".ci/run": "#!/bin/sh\ntrue\n"})
    assert_passes("check_scripts.sh", tmp_path)
    plant(tmp_path, {"tests/a.sh": "#!/bin/sh\nrm -rf $1/\n"})
    code, out = run_lint("check_scripts.sh", tmp_path)
    assert code != 0 and "SC2086" in out


# --- configuration -----------------------------------------------------------------------------

CONF_DEF = '''/* X(in, a, comment) */
X(port, INT, "gateway.yaml", "server.port", "API_PORT", "8765", 0, 65535, "port", false, "a, (b)")
X(key, SECRET, "", "", "KEY", "", 0, 512, "", true, "no YAML form")
X(rpm, INT, "gateway.yaml", "classes.ai.rpm", "", "60", 1, 9, "r", true, "x")
X(hosts, LIST, "gateway.yaml", "server.hosts", "", "", 0, 0, "", true, "a list")
'''
GATEWAY_YAML = '''# The server.
server:
  # Port to listen on.
  port: 8765
  hosts: ["a#b", 'c: d']  # who
classes:
  ai:
    rpm: 60  # per minute
'''


def conf_tree(root, table=CONF_DEF, text=GATEWAY_YAML):
    return plant(root, {"gateway/core/conf.def": table, "conf/gateway.yaml": text,
                        "conf/models_registry.yaml": "anything: 1\n"})


def test_a_configuration_in_step_passes(tmp_path):
    assert_passes("check_conf.py", conf_tree(tmp_path))


def test_a_key_missing_from_the_yaml_fails(tmp_path):
    conf_tree(tmp_path, text=GATEWAY_YAML.replace("    rpm: 60", "    rpn: 60"))
    assert_fails("check_conf.py", tmp_path, "classes.ai.rpm is not in conf/gateway.yaml",
                 "conf/gateway.yaml:8: classes.ai.rpn has no row")


def test_a_key_without_a_comment_fails(tmp_path):
    conf_tree(tmp_path, text=GATEWAY_YAML.replace("  # Port to listen on.\n", "  # ---\n"))
    assert_fails("check_conf.py", tmp_path, "conf/gateway.yaml:4: server.port has no comment")


def test_a_hash_inside_quotes_is_no_comment(tmp_path):
    conf_tree(tmp_path, text=GATEWAY_YAML.replace("  # who", ""))
    assert_fails("check_conf.py", tmp_path, "conf/gateway.yaml:5: server.hosts has no comment")


def test_a_missing_yaml_file_fails(tmp_path):
    conf_tree(tmp_path)
    os.unlink(tmp_path / "conf/gateway.yaml")
    assert_fails("check_conf.py", tmp_path, "conf/gateway.yaml:1: missing")


def test_an_empty_or_crooked_key_table_fails(tmp_path):
    assert_fails("check_conf.py", conf_tree(tmp_path, table=""), "no rows")
    assert_fails("check_conf.py", conf_tree(tmp_path, table='X(a, INT, "f", "k")\n'), "11 columns")


# --- metrics and errors ------------------------------------------------------------------------

METRICS_DEF = '''X(M_A, "things_total", COUNTER, "kind", 1, NONE, "Things")
X(M_B, "wait_seconds", HISTOGRAM, "", 1000000, FINE, "Waiting")
'''


def metrics_tree(root, readme, table=METRICS_DEF):
    return plant(root, {"gateway/core/metrics.def": table, "README.md": readme})


def test_metrics_in_step_pass(tmp_path):
    metrics_tree(tmp_path, "`things_total{kind}`, `wait_seconds`, `wait_seconds_bucket`, `body_mb`\n")
    assert_passes("check_metrics.py", tmp_path)


def test_a_metric_missing_from_the_readme_fails(tmp_path):
    assert_fails("check_metrics.py", metrics_tree(tmp_path, "`things_total`, wait_seconds\n"),
                 "metrics.def:2: wait_seconds is not in README.md")


def test_a_metric_only_in_the_readme_fails(tmp_path):
    metrics_tree(tmp_path, "`things_total` `wait_seconds`\n\n`dreams_total`\n")
    assert_fails("check_metrics.py", tmp_path, "README.md:3: the metric dreams_total has no row")


def test_an_empty_metrics_table_or_no_readme_fails(tmp_path):
    assert_fails("check_metrics.py", metrics_tree(tmp_path, "x", table=""), "no rows")
    plant(tmp_path, {"gateway/core/metrics.def": METRICS_DEF})
    os.unlink(tmp_path / "README.md")
    assert_fails("check_metrics.py", tmp_path, "things_total is not in README.md")


ERR_DEF = '''X(GW_A, 400, "bad-thing", "t", false, LVL_INFO, "Bad")
X(GW_B, 503, "gone-away", "t", true, LVL_INFO, "Gone")
'''


def test_every_slug_must_be_documented(tmp_path):
    plant(tmp_path, {"gateway/core/err.def": ERR_DEF, "README.md": "`bad-thing`\n",
                     "deploy/docs/errors.md": "| `gone-away` | 503 |\n"})
    assert_passes("check_errors.py", tmp_path)
    plant(tmp_path, {"deploy/docs/errors.md": "gone-away\n"})
    assert_fails("check_errors.py", tmp_path, "err.def:2: `gone-away`")


def test_a_slug_twice_fails(tmp_path):
    table = ERR_DEF + ERR_DEF.split("\n", maxsplit=1)[0].replace("GW_A", "GW_C") + "\n"
    plant(tmp_path, {"gateway/core/err.def": table, "README.md": "`bad-thing` `gone-away`\n"})
    assert_fails("check_errors.py", tmp_path, "err.def:3: bad-thing stands already on line 1")


# --- words and sizes ---------------------------------------------------------------------------

def function_of(lines):
    return "static int f(int a,\n             int b)\n{\n%s}\n" % ("    a++;\n" * (lines - 2))


@pytest.mark.parametrize("words", ["TO" "DO", "fix" "me", "X" "XX", "HA" "CK", "not " "implemented",
                                   "place" "holder", "for " "now"])
@pytest.mark.parametrize("path", ["handlers/a.c", "deploy/a.sh", "gateway/core/a.def"])
def test_a_promise_in_the_product_fails(tmp_path, path, words):
    plant(tmp_path, {path: "fine\n/* %s: later */\n" % words})
    assert_fails("check_words.py", tmp_path, path + ":2: left for later")


def test_words_that_only_contain_a_promise_pass(tmp_path):
    plant(tmp_path, {"handlers/a.c": 'char *t = "/tmp/aXX' 'XXXX";\nint hackney, todos;\n'
                     'static const char *const examples[] = {"place' 'holder", "x"};\n'})
    assert_passes("check_words.py", tmp_path)


@pytest.mark.parametrize("text", ["@pytest.mark." "skip", "@pytest.mark." "xfail(x)",
                                  "    sk" "ip();", "    return " "77;"])
def test_a_test_that_can_pass_without_running_fails(tmp_path, text):
    plant(tmp_path, {"tests/unit/test_a.c": text + "\n"})
    assert_fails("check_words.py", tmp_path, "tests/unit/test_a.c:1: can pass without running")


def test_a_long_function_is_warned_of_and_a_longer_one_fails(tmp_path):
    plant(tmp_path, {"storage/a.c": function_of(80)})
    code, out = run_lint("check_words.py", tmp_path)
    assert code == 0 and "warning" not in out
    plant(tmp_path, {"storage/a.c": function_of(81)})
    code, out = run_lint("check_words.py", tmp_path)
    assert code == 0 and "warning: f() has 81 lines" in out
    plant(tmp_path, {"storage/a.c": "int x;\n\n" + function_of(101)})
    assert_fails("check_words.py", tmp_path, "storage/a.c:5: f() has 101 lines")


def test_a_long_table_is_no_function(tmp_path):
    plant(tmp_path, {"storage/a.c": "static const int t[] = {\n" + "    1,\n" * 300 + "};\n"})
    assert_passes("check_words.py", tmp_path)


def test_a_file_over_800_lines_fails(tmp_path):
    plant(tmp_path, {"tests/integration/test_a.py": "a = 1\n" * 800})
    assert_passes("check_words.py", tmp_path)
    plant(tmp_path, {"tests/integration/test_a.py": "a = 1\n" * 801})
    assert_fails("check_words.py", tmp_path, "tests/integration/test_a.py:1: 801 lines")
