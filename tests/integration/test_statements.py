"""Every statement of storage/ is understood by the schema of the migrations: tables, columns, types and
parameters. Postgres prepares each as the program sends it, with no parameter types told."""
import ast
import json
import os
import re
import shlex
import subprocess

from gateway import binary

STMT = re.compile(r'struct\s+pg_stmt\s+(\w+)\s*=\s*\{\s*((?:"(?:[^"\\]|\\.)*"[\s,]*)+)\}')
TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')


def commands():
    """File -> the compiler's command, of the sources in storage/."""
    build = os.path.dirname(os.path.realpath(binary()))
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as f:
        for entry in json.load(f):
            path = os.path.normpath(os.path.join(entry["directory"], entry["file"]))
            if "/storage/" in path and path.endswith(".c"):
                yield path, entry["directory"], shlex.split(entry["command"])


def preprocessed(directory, command):
    keep, skip = [], False
    for word in command:
        if skip or word in ("-MD", "-c"):
            skip = False
        elif word in ("-o", "-MF", "-MQ"):
            skip = True
        elif word != "ccache":
            keep.append(word)
    return subprocess.run(keep + ["-E", "-P"], cwd=directory, capture_output=True, text=True,
                          check=True).stdout


def statements():
    for path, directory, command in commands():
        for _, body in STMT.findall(preprocessed(directory, command)):
            name, _, sql = body.partition(",")
            yield os.path.basename(path), ast.literal_eval(name.strip()), "".join(
                ast.literal_eval(t) for t in TEXT.findall(sql))


def prepare(db, sql):
    """What the server says against it, or None."""
    verb = sql.split(None, 1)[0].upper()
    if verb in ("BEGIN", "COMMIT", "ROLLBACK", "SET"):
        return None
    try:
        db.psql(sql + ";\n\\.\n" if verb == "COPY" else "PREPARE it AS " + sql)
    except RuntimeError as e:
        return str(e)
    return None


def test_every_statement_is_understood_by_the_schema(postgres):
    found = list(statements())
    wrong = ["%s, %s: %s" % (path, name, why) for path, name, sql in found
             for why in [prepare(postgres, sql)] if why]
    assert len(found) > 10
    assert not wrong, "\n".join(wrong)


def test_a_statement_of_another_schema_is_found_out(postgres):
    assert "no_such_column" in prepare(postgres, "SELECT no_such_column FROM users WHERE id = $1")
    assert "no_such_column" in prepare(postgres, "COPY users (no_such_column) FROM STDIN")
    assert "determine data type" in prepare(postgres, "SELECT $1 IS NULL")
