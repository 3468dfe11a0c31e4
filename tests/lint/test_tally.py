"""tests/tally.py counts what passed and lets nothing that failed, crashed or did not run pass."""
import json
import os
import subprocess
import sys

import pytest

TALLY = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tally.py")


def tally(tmp_path, kind, text):
    path = tmp_path / "record"
    path.write_text(text)
    done = subprocess.run([sys.executable, TALLY, kind, str(path)], capture_output=True, text=True,
                          check=True)
    return done.stdout.strip(), done.stderr


def program(out="", err="", result="OK"):
    return json.dumps({"name": "postern:unit / a", "stdout": out, "stderr": err,
                       "result": result}) + "\n"


CMOCKA = ("[==========] Running 3 test(s).\n[ RUN      ] one\n[       OK ] one\n"
          "[ RUN      ] two\n[       OK ] two\n")


def test_single_tests_of_a_program_are_counted(tmp_path):
    assert tally(tmp_path, "meson", program(CMOCKA) + program("7 inputs\n"))[0] == "3 0"


def test_a_failed_single_test_is_named(tmp_path):
    counts, said = tally(tmp_path, "meson", program(
        CMOCKA + "[ RUN      ] three\n[  FAILED  ] three\n", "1 != 2\n[  FAILED  ] 1 test(s), "
        "listed below:\n[  FAILED  ] three\n", "FAIL"))
    assert counts == "2 1" and "three" in said and "1 != 2" in said


def test_a_single_test_that_did_not_run_counts_as_failed(tmp_path):
    assert tally(tmp_path, "meson", program(CMOCKA + "[  SKIPPED ] three\n"))[0] == "2 1"


@pytest.mark.parametrize("result", ["FAIL", "ERROR", "TIMEOUT", "SKIP", "INTERRUPT"])
def test_a_program_that_ends_badly_fails_though_its_tests_passed(tmp_path, result):
    assert tally(tmp_path, "meson", program(CMOCKA, result=result))[0] == "2 1"


@pytest.mark.parametrize("report", [
    "==1==ERROR: AddressSanitizer: heap-use-after-free", "==1==ERROR: LeakSanitizer: detected",
    "a.c:3:1: runtime error: signed integer overflow"])
def test_a_sanitizer_report_in_the_output_fails_a_passing_program(tmp_path, report):
    assert tally(tmp_path, "meson", program(CMOCKA, report))[0] == "2 1"


def test_a_pytest_record_is_counted(tmp_path):
    counts, said = tally(tmp_path, "pytest", """<testsuites><testsuite>
        <testcase classname="a" name="one"/>
        <testcase classname="a" name="two"><failure message="m">text</failure></testcase>
        <testcase classname="a" name="three"><error message="m">setup</error></testcase>
        <testcase classname="a" name="four"><skipped message="not here"/></testcase>
        </testsuite></testsuites>""")
    assert counts == "1 3"
    assert all(w in said for w in ("a::two", "a::three", "a::four", "text", "setup", "not here"))


def test_a_tap_record_is_counted(tmp_path):
    counts, said = tally(tmp_path, "tap", "TAP version 13\n    ok 1 - a\n    not ok 2 - b\nok 3 - c "
                         "# SKIP\n# tests 4\n# pass 1\n# fail 1\n# cancelled 1\n# skipped 1\n# todo 0\n")
    assert counts == "1 3" and "not ok 2 - b" in said and "# SKIP" in said


@pytest.mark.parametrize("kind, text", [
    ("meson", ""), ("pytest", "<testsuites><testsuite/></testsuites>"), ("tap", "ok 1 - cut off"),
    ("tap", "# pass 0\n# fail 0\n")])
def test_a_record_without_a_test_is_a_failure(tmp_path, kind, text):
    assert tally(tmp_path, kind, text)[0] == "0 1"


def test_a_missing_record_is_a_failure(tmp_path):
    done = subprocess.run([sys.executable, TALLY, "pytest", str(tmp_path / "none")],
                          capture_output=True, text=True, check=True)
    assert done.stdout == "0 1\n"
