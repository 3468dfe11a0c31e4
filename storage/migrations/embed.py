#!/usr/bin/env python3
"""Turns the numbered SQL pairs into a C file (storage/migrations.h): embed.py OUT.c FILE.sql...

Refuses a number that is missing or used twice, half a pair, and statements that end or escape the
migration's own transaction."""
import hashlib
import os
import re
import sys

NAME = re.compile(r"(\d{3})_([a-z][a-z0-9_]*)\.(up|down)\.sql$")
ESCAPES = re.compile(r"^\s*(COMMIT|ROLLBACK|BEGIN\s*;|START\s+TRANSACTION|END\s*;\s*$|VACUUM|.*\bCONCURRENTLY\b)",
                     re.I | re.M)


def fail(text):
    sys.exit("embed.py: " + text)


def read(path):
    with open(path, "rb") as f:
        data = f.read()
    text = re.sub(r"--[^\n]*", "", data.decode("utf-8"))
    body = re.sub(r"\$\$.*?\$\$", "", text, flags=re.S)  # a function's BEGIN is its own
    found = ESCAPES.search(body)
    if found:
        fail("%s: \"%s\" cannot run inside the migration's transaction" % (path, found.group(0).strip()))
    if b"\0" in data or not body.strip():
        fail("%s: empty, or holds a NUL" % path)
    return data


def collect(paths):
    found = {}
    for path in paths:
        m = NAME.match(os.path.basename(path))
        if not m:
            fail("%s is not named NNN_name.up.sql or NNN_name.down.sql" % path)
        number, name, way = int(m.group(1)), m.group(2), m.group(3)
        entry = found.setdefault(number, {"name": name})
        if entry["name"] != name or way in entry:
            fail("%03d is used twice: %s and %s" % (number, entry["name"], name))
        entry[way] = read(path)
    if sorted(found) != list(range(1, len(found) + 1)):
        fail("numbers are not 001 to %03d: %s" % (len(found), sorted(found)))
    for number, entry in found.items():
        if "up" not in entry or "down" not in entry:
            fail("%03d_%s has no %s file" % (number, entry["name"], "down" if "up" in entry else "up"))
    return [(n, found[n]) for n in sorted(found)]


def literal(data):
    text = data.decode("utf-8").replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?")
    return "".join('        "%s\\n"\n' % line for line in text.rstrip("\n").split("\n")).rstrip("\n")


def main():
    out, paths = sys.argv[1], sys.argv[2:]
    rows = []
    for number, entry in collect(paths):
        rows.append('    {%d, "%s", "%s",\n%s,\n%s},\n' % (
            number, entry["name"], hashlib.sha256(entry["up"]).hexdigest(), literal(entry["up"]),
            literal(entry["down"])))
    with open(out, "w", encoding="utf-8") as f:
        f.write('/* Made by storage/migrations/embed.py. */\n#include "storage/migrations.h"\n\n'
                "const struct migration migrations[] = {\n%s};\n"
                "const unsigned n_migrations = sizeof(migrations) / sizeof(migrations[0]);\n"
                % "".join(rows))


if __name__ == "__main__":
    main()
