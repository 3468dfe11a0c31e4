#!/usr/bin/env python3
"""Every metric family of gateway/core/metrics.def is named in README.md, and every name README.md
gives in its table of metrics is in the table. A name counts as a metric where it stands in
backquotes, alone or with labels, and ends like one or starts like one of ours."""
import re

import tree

TABLE = "gateway/core/metrics.def"
# Suffixes of the exposition; a README name with one of them must be a row, whatever its prefix.
SUFFIXES = ("_total", "_seconds", "_in_progress", "_in_flight", "_dollars", "_bucket", "_info")
QUOTED = re.compile(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+)+)(?:\{[^}`]*\})?`")


def mentioned(text):
    """name -> first line, of everything in README that looks like a metric."""
    names = {}
    for m in QUOTED.finditer(text):
        names.setdefault(m.group(1), text.count("\n", 0, m.start()) + 1)
    return names


def base(name):
    return re.sub(r"_(bucket|sum|count)$", "", name)


def problems(root):
    rows = {row[1]: line for line, row in tree.def_rows(tree.read(root, TABLE))}
    if not rows:
        return ["%s:1: no rows found" % TABLE]
    names = mentioned(tree.read(root, "README.md"))
    found = ["%s:%d: %s is not in README.md" % (TABLE, line, name)
             for name, line in rows.items() if name not in names]
    found += ["README.md:%d: the metric %s has no row in %s" % (line, name, TABLE)
              for name, line in names.items()
              if name.endswith(SUFFIXES) and name not in rows and base(name) not in rows]
    return found


if __name__ == "__main__":
    tree.run(problems)
