#!/usr/bin/env python3
"""The key table and the shipped YAML stay in step: every key of gateway/core/conf.def is in the
conf/*.yaml file its row names, with a comment on its line or right above it; and every key of those
files has a row. Files that no row names (models_registry.yaml) are read by their own owners."""
import os
import re

import tree

TABLE = "gateway/core/conf.def"
KEY = re.compile(r"^( *)([A-Za-z0-9_.-]+):(?:\s+(.*))?$")


class Leaf:
    def __init__(self, line, commented):
        self.line, self.commented = line, commented


def after_value(value):
    """The comment behind a YAML value, if any, and whether there is a value at all."""
    value = value or ""
    m = re.match(r"""\s*(?:"(?:\\.|[^"])*"|'(?:''|[^'])*'|[^#]|(?<=\S)#)*""", value)
    rest = value[m.end():]
    return bool(value[:m.end()].strip()), rest.startswith("#")


def yaml_leaves(text):
    """Dotted key -> Leaf of a YAML file made of nested maps (the form the configuration uses)."""
    leaves, path, above = {}, [], False  # path: (indent, name, line, commented)

    def settle(indent):
        while path and path[-1][0] >= indent:
            _, _, line, commented, has_child = path[-1]
            if not has_child:
                leaves[".".join(p[1] for p in path)] = Leaf(line, commented)
            path.pop()

    for number, raw in enumerate(text.split("\n"), 1):
        stripped = raw.strip()
        if not stripped:
            above = False
            continue
        if stripped.startswith("#"):
            above = len(stripped.strip("#-= ")) > 0
            continue
        m = KEY.match(raw)
        if m:
            settle(len(m.group(1)))
            if path:
                path[-1][4] = True
            beside = after_value(m.group(3))[1]
            path.append([len(m.group(1)), m.group(2), number, above or beside, False])
        above = False
    settle(0)
    return leaves


def problems(root):
    found, wanted = [], {}
    for line, row in tree.def_rows(tree.read(root, TABLE)):
        if len(row) != 11:
            found.append("%s:%d: a row has 11 columns, this one %d" % (TABLE, line, len(row)))
        elif row[2]:
            wanted.setdefault(row[2], {})[row[3]] = line
    if not wanted:
        found.append("%s:1: no rows found" % TABLE)
    for name, keys in sorted(wanted.items()):
        path = "conf/" + name
        if not os.path.exists(os.path.join(root, path)):
            found.append("%s:1: missing, though %s has %d keys for it" % (path, TABLE, len(keys)))
            continue
        leaves = yaml_leaves(tree.read(root, path))
        for key, line in keys.items():
            if key not in leaves:
                found.append("%s:%d: %s is not in %s" % (TABLE, line, key, path))
            elif not leaves[key].commented:
                found.append("%s:%d: %s has no comment" % (path, leaves[key].line, key))
        found += ["%s:%d: %s has no row in %s" % (path, leaf.line, key, TABLE)
                  for key, leaf in leaves.items() if key not in keys]
    return found


if __name__ == "__main__":
    tree.run(problems)
