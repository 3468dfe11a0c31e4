"""What the lints share: which files belong to the project, how a .def table is read, how a lint ends.

A lint is a script with `problems(root) -> list of "file:line: what"`; `run(problems)` is its main:
it takes the tree's root as its only argument (default: this tree), prints the problems and exits 1
if there are any.
"""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SKIP_DIRS = {".git", "node_modules", "__pycache__", ".pytest_cache", "var", "logs", "out", "corpus"}
CODE_DIRS = ("gateway", "handlers", "providers", "storage")


def files(root, tops, suffixes):
    """Paths relative to root, sorted, of the files below `tops` ("" is everything) by suffix."""
    found = []
    for top in tops:
        for here, dirs, names in os.walk(os.path.join(root, top)):
            rel = os.path.relpath(here, root)
            dirs[:] = [d for d in dirs if d not in SKIP_DIRS
                       and not (rel == "." and (d == "build" or d.startswith("build-")))]
            for name in names:
                if name.endswith(tuple(suffixes)):
                    found.append(os.path.normpath(os.path.join(rel, name)))
    return sorted(set(found))


def read(root, path):
    """The text of a file; "" if it does not exist, so that all of it is reported as missing."""
    if not os.path.exists(os.path.join(root, path)):
        return ""
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def strip_comments(text):
    """C source with comments blanked out, line numbers kept; strings are left alone."""
    pattern = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|/\*.*?\*/|//[^\n]*', re.S)

    def blank(m):
        s = m.group(0)
        return s if s[0] in "\"'" else re.sub(r"[^\n]", " ", s)
    return pattern.sub(blank, text)


def def_rows(text):
    """The rows of an X-macro table: (line number, [argument, ...]); strings come without quotes."""
    text = strip_comments(text)
    rows = []
    for m in re.finditer(r"^X\(", text, re.M):
        args, arg, pos, depth = [], "", m.end(), 1
        while depth:
            c = text[pos]
            if c == '"':
                end = re.compile(r'"(?:\\.|[^"\\])*"').match(text, pos).end()
                arg += text[pos:end]
                pos = end
                continue
            depth += (c == "(") - (c == ")")
            if not depth or (c == "," and depth == 1):
                args.append(unquote(arg.strip()))
                arg = ""
            else:
                arg += c
            pos += 1
        rows.append((text.count("\n", 0, m.start()) + 1, args))
    return rows


def unquote(arg):
    parts = re.findall(r'"((?:\\.|[^"\\])*)"', arg)
    if not parts or not arg.startswith('"'):
        return arg
    return "".join(parts).replace('\\"', '"').replace("\\\\", "\\")


def run(problems):
    root = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    found = problems(root)
    for line in found:
        print(line)
    sys.exit(1 if found else 0)
