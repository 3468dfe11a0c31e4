#!/usr/bin/env python3
"""Holds the direction of dependencies (STYLE 1): who may include whom, and which single file may
include each library. Also: includes of our own files are written from the root, exist, and file
stems are unique in the tree."""
import os
import re

import tree

# layer -> layers it may include; the layer of a file is the longest directory below that holds it.
LAYERS = {
    "gateway/core": {"gateway/core"},
    "storage": {"gateway/core", "storage"},
    "providers": {"gateway/core", "providers"},
    "gateway/http": {"gateway/core", "gateway/http"},
    "gateway/middleware": {"gateway/core", "gateway/http", "gateway/middleware", "storage"},
    "handlers": {"gateway/core", "gateway/http", "gateway/middleware", "storage", "providers",
                 "handlers"},
}
# The program itself: main.c and what stands beside it wires everything and may include everything.
PROGRAM = "gateway"
LAYERS[PROGRAM] = set(LAYERS) | {PROGRAM}

# library header -> the only files that may include it: one file, and its private parts (stem_*)
LIBRARIES = [
    (re.compile(r"(evhtp\.h|evhtp/.*)$"), re.compile(r"gateway/http/(server\.c|server_[a-z_]+\.[ch])$")),
    (re.compile(r"curl/.*$"), re.compile(r"providers/(transport\.c|transport_[a-z_]+\.[ch])$")),
    (re.compile(r"(.*/)?libpq(-fe|-events)?\.h$|libpq/.*$"), re.compile(r"storage/(pg\.c|pg_[a-z_]+\.[ch])$")),
    (re.compile(r"hiredis/.*$|hiredis\.h$"), re.compile(r"storage/(redis\.c|redis_[a-z_]+\.[ch])$")),
]
TESTS = ("tests/unit", "tests/fuzz", "tests/bench", "tests/support")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def layer(path):
    for name in sorted(set(LAYERS) - {PROGRAM}, key=len, reverse=True):
        if path.startswith(name + "/"):
            return name
    return PROGRAM if os.path.dirname(path) == PROGRAM else None


def library_problem(path, name):
    for header, allowed in LIBRARIES:
        if header.match(name) and not allowed.match(path):
            return "includes <%s>, which is kept to %s" % (name, allowed.pattern)
    return None


def own_problem(root, path, name):
    if not os.path.exists(os.path.join(root, name)):
        beside = os.path.join(os.path.dirname(path), name)
        if path.startswith(TESTS) and os.path.exists(os.path.join(root, beside)):
            return None
        return 'includes "%s", which is no file when written from the root' % name
    if path.startswith("tests/"):
        return None
    source, target = layer(path), layer(name)
    if target is None or target not in LAYERS[source]:
        return '%s may not include "%s"' % (source, name)
    return None


def include_problems(root, path):
    text = tree.strip_comments(tree.read(root, path))
    for m in INCLUDE.finditer(text):
        line, quote, name = text.count("\n", 0, m.start()) + 1, m.group(1), m.group(2)
        what = library_problem(path, name) if not path.startswith("tests/") else None
        if not what and quote == '"':
            what = own_problem(root, path, name)
        elif not what and os.path.exists(os.path.join(root, name)):
            what = 'own header <%s> in angle brackets: write it in quotes' % name
        if what:
            yield "%s:%d: %s" % (path, line, what)


def stem_problems(paths):
    homes = {}
    for path in paths:
        stem, home = os.path.splitext(os.path.basename(path))[0], os.path.dirname(path)
        first = homes.setdefault(stem, home)
        if first != home:
            yield "%s:1: the stem %s is also in %s/" % (path, stem, first)


def problems(root):
    code = tree.files(root, tree.CODE_DIRS, (".c", ".h", ".def"))
    tests = tree.files(root, TESTS, (".c", ".h"))
    found = ["%s:1: is in no layer of STYLE 1" % p for p in code if layer(p) is None]
    for path in [p for p in code if layer(p)] + tests:
        found += include_problems(root, path)
    return found + list(stem_problems(code)) + list(stem_problems(tests))


if __name__ == "__main__":
    tree.run(problems)
