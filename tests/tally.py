#!/usr/bin/env python3
"""Counts the tests of one runner's record for tests/run.sh.

    tally.py meson FILE     meson-logs/testlog.json; cmocka's single tests are counted where they print
    tally.py pytest FILE    a junit XML file
    tally.py tap FILE       the output of node --test in TAP form

Prints "PASSED FAILED" on standard output and each failure on standard error. A skipped test counts
as failed: it did not show what it is there to show. A record without a test is "0 1".
"""
import json
import os
import re
import sys
import xml.etree.ElementTree

REPORT = re.compile(r"ERROR: (Address|Leak|Undefined|Thread)\w*Sanitizer|: runtime error: ")
CMOCKA = re.compile(r"^\[ +(OK|FAILED|SKIPPED) +\] (?!\d+ test\(s\))(.+)$", re.M)


def complain(name, text=""):
    print("FAILED %s" % name, file=sys.stderr)
    if text.strip():
        print("    " + "\n    ".join(text.strip().split("\n")[-40:]), file=sys.stderr)


def count_program(record):
    """One program of a meson run: (passed, failed)."""
    out, err = record.get("stdout") or "", record.get("stderr") or ""
    single = CMOCKA.findall(out)
    failed = [name for what, name in single if what != "OK"]
    broken = record["result"] not in ("OK", "EXPECTEDFAIL")
    if REPORT.search(out + err) and not failed:
        failed.append("sanitizer report")
    if broken and not failed:
        failed.append(record["result"])
    if failed:
        complain("%s: %s" % (record["name"], ", ".join(failed)), err or out)
    passed = sum(1 for what, _ in single if what == "OK")
    return (passed if single or failed else 1), len(failed)


def count_meson(text):
    records = [json.loads(line) for line in text.split("\n") if line.strip()]
    counts = [count_program(r) for r in records]
    return sum(p for p, _ in counts), sum(f for _, f in counts)


def count_pytest(text):
    passed = failed = 0
    for case in xml.etree.ElementTree.fromstring(text).iter("testcase"):
        bad = [case.find(kind) for kind in ("failure", "error", "skipped")]
        bad = [b for b in bad if b is not None]
        if bad:
            failed += 1
            complain("%s::%s" % (case.get("classname"), case.get("name")), bad[0].text or
                     bad[0].get("message") or "")
        else:
            passed += 1
    return passed, failed


def count_tap(text):
    """node --test ends with totals that count every single test, nested ones too."""
    totals = dict(re.findall(r"^# (pass|fail|cancelled|skipped|todo) (\d+)\s*$", text, re.M))
    if not totals:
        complain("the runner ended without a total", text)
        return 0, 1
    failed = sum(int(totals.get(k, 0)) for k in ("fail", "cancelled", "skipped", "todo"))
    for line in re.findall(r"^\s*(not ok .*|ok .*# (?:SKIP|TODO).*)$", text, re.M):
        complain(line)
    return int(totals.get("pass", 0)), failed


def tally(kind, path):
    count = {"meson": count_meson, "pytest": count_pytest, "tap": count_tap}[kind]
    if not os.path.exists(path):
        complain("%s was not written" % path)
        return 0, 1
    with open(path, encoding="utf-8", errors="replace") as f:
        passed, failed = count(f.read())
    if not passed and not failed:
        complain("%s holds no test" % path)
        failed = 1
    return passed, failed


if __name__ == "__main__":
    print("%d %d" % tally(sys.argv[1], sys.argv[2]))
