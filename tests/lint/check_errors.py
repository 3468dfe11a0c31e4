#!/usr/bin/env python3
"""Every public error slug of gateway/core/err.def is explained in README.md or below deploy/docs, and
no slug or code is in the table twice."""
import re

import tree

TABLE = "gateway/core/err.def"


def documentation(root):
    paths = ["README.md"] + tree.files(root, ["deploy/docs"], (".md", ".html", ".yaml"))
    return "\n".join(tree.read(root, p) for p in paths)


def problems(root):
    rows = tree.def_rows(tree.read(root, TABLE))
    if not rows:
        return ["%s:1: no rows found" % TABLE]
    words = set(re.findall(r"`([a-z][a-z-]*)`", documentation(root)))
    found, seen = [], {}
    for line, row in rows:
        code, slug = row[0], row[2]
        if slug not in words:
            found.append("%s:%d: `%s` is in neither README.md nor deploy/docs" % (TABLE, line, slug))
        for name in (code, slug):
            if name in seen:
                found.append("%s:%d: %s stands already on line %d" % (TABLE, line, name, seen[name]))
            seen.setdefault(name, line)
    return found


if __name__ == "__main__":
    tree.run(problems)
