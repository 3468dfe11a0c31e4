#!/usr/bin/env python3
"""Nothing in the product is left for later, no test can pass without running, no function and no file
is too long. A function over 80 lines is warned of, one over 100 fails; a file fails over 800 lines."""
import re
import sys

import tree

PRODUCT = ("gateway", "handlers", "providers", "storage", "deploy")
# A word that is a whole string literal is data (the list of example secrets), not a promise.
PROMISE = re.compile(r"(?<!\")\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK|not implemented|placeholder|for now)"
                     r"\b(?!\")", re.I)
# A skip called inside a pytest test is not among them: tests/tally.py counts that test as failed.
UNRUN = re.compile(r"pytest\.mark\.(skip|xfail)" r"|\bskip\(\)" r"|return 7" r"7\b")
TEXT = (".c", ".h", ".def", ".py", ".sh", ".js", ".mjs", ".yaml", ".conf", ".service", ".md", ".lua",
        ".sql", ".html")
CODE = (".c", ".h", ".py", ".js", ".mjs", ".sh")
WARN_LINES, FAIL_LINES, FILE_LINES = 80, 100, 800


def lines_matching(root, paths, pattern, what):
    for path in paths:
        for number, line in enumerate(tree.read(root, path).split("\n"), 1):
            m = pattern.search(line)
            if m:
                yield "%s:%d: %s: %s" % (path, number, what, m.group(0))


def functions(text):
    """(line, name, length) of each function of a C file in our brace style: { and } in column 0."""
    start, name, head = 0, "?", ""
    for number, line in enumerate(text.split("\n"), 1):
        if line == "{" and not start:
            start = number
            names = re.findall(r"([A-Za-z_]\w*)\s*\(", head)
            name = names[0] if names else "?"
        elif line.startswith("}") and start:
            yield start, name, number - start + 1
            start, head = 0, ""
        elif not start:
            head = "" if line.endswith((";", "}")) or not line else head + " " + line


def function_problems(root):
    for path in tree.files(root, tree.CODE_DIRS + ("tests",), (".c",)):
        for line, name, length in functions(tree.strip_comments(tree.read(root, path))):
            if length > FAIL_LINES:
                yield "%s:%d: %s() has %d lines, over %d" % (path, line, name, length, FAIL_LINES)
            elif length > WARN_LINES:
                print("%s:%d: warning: %s() has %d lines" % (path, line, name, length),
                      file=sys.stderr)


def file_problems(root):
    for path in tree.files(root, [""], CODE):
        count = tree.read(root, path).count("\n")
        if count > FILE_LINES:
            yield "%s:1: %d lines, over %d: usually two nouns" % (path, count, FILE_LINES)


def problems(root):
    return (list(lines_matching(root, tree.files(root, PRODUCT, TEXT), PROMISE, "left for later"))
            + list(lines_matching(root, tree.files(root, ["tests"], (".c", ".py", ".js", ".mjs")),
                                  UNRUN, "can pass without running"))
            + list(function_problems(root)) + list(file_problems(root)))


if __name__ == "__main__":
    tree.run(problems)
