"""What the Autobahn test suite is expected to say, and how `make conformance` tells what differs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .autobahn import expected
from .autobahn.results import INFORMATIONAL, OK

ROOT = Path(__file__).parent.parent

PATTERNS = ["1.*", "7.1.*"]


def test_nothing_less_than_ok_is_expected_of_both_roles() -> None:
    verdicts = expected.load()
    assert list(verdicts) == ["server", "client"]
    for cases in verdicts.values():
        assert len(cases) == 517
        # Close in the middle of a message, and close codes outside of every range: the RFC says nothing of them.
        informational = [case for case, verdict in cases.items() if verdict == INFORMATIONAL]
        assert informational == ["7.1.6", "7.13.1", "7.13.2"]
        assert set(cases.values()) == {OK, INFORMATIONAL}


def test_what_is_expected_is_written_as_it_stands_there(tmp_path: Path) -> None:
    copy = tmp_path / "expected.json"
    expected.save(expected.load(), copy)
    assert copy.read_text("utf-8") == expected.FILE.read_text("utf-8")


def test_a_case_that_differs_is_named_with_both_verdicts() -> None:
    known = {"1.1.1": OK, "7.1.2": OK, "10.1.1": OK}
    assert expected.differences(known, {"1.1.1": OK, "7.1.2": OK}, PATTERNS) == {}
    found = {"1.1.1": "NON-STRICT/OK", "7.1.2": "OK/UNCLEAN"}
    assert expected.differences(known, found, PATTERNS) == {
        "1.1.1": "NON-STRICT/OK, expected OK/OK",
        "7.1.2": "OK/UNCLEAN, expected OK/OK",
    }


def test_a_case_that_did_not_run_or_is_unknown_is_a_difference() -> None:
    known = {"1.1.1": OK, "7.1.2": OK, "10.1.1": OK}
    assert expected.differences(known, {"1.1.1": OK, "7.1.10": OK}, PATTERNS) == {
        "7.1.2": "did not run, expected OK/OK",
        "7.1.10": "OK/OK, expected no such case",
    }


def conformance(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.autobahn.run", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_without_python_2_7_it_fails_and_says_how_to_get_one(tmp_path: Path) -> None:
    nowhere = str(tmp_path)
    done = conformance(PATH=nowhere, PYENV_ROOT=nowhere, WSLOWLEVEL_PYTHON2="")
    assert done.returncode == 2
    assert "needs Python 2.7, and none was found" in done.stderr
    assert "pyenv install 2.7.18" in done.stderr
    assert "WSLOWLEVEL_PYTHON2" in done.stderr
    assert not done.stdout


def test_another_python_in_its_place_is_refused() -> None:
    done = conformance("--python2", sys.executable)
    assert done.returncode == 2
    assert f"{sys.executable!r} is no Python 2.7" in done.stderr
