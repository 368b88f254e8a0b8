"""the outcome of each case -> what differs from expected.json

The file has a line for each group of cases: the verdicts, each with the numbers of its cases.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from .results import order

FILE = Path(__file__).with_name("expected.json")

Verdicts = dict[str, str]
"""By the name of the case, such as "6.4.1"."""


def load(file: Path = FILE) -> dict[str, Verdicts]:
    """What is expected of each role."""
    return {
        role: {
            f"{group}.{number}": verdict
            for group, verdicts in groups.items()
            for verdict, numbers in verdicts.items()
            for number in numbers
        }
        for role, groups in json.loads(file.read_text("utf-8")).items()
    }


def save(expected: Mapping[str, Verdicts], file: Path = FILE) -> None:
    roles = []
    for role, verdicts in expected.items():
        groups: dict[str, dict[str, list[int]]] = {}
        for case in sorted(verdicts, key=order):
            group, _, number = case.rpartition(".")
            groups.setdefault(group, {}).setdefault(verdicts[case], []).append(int(number))
        lines = ",\n".join(f"    {json.dumps(group)}: {json.dumps(cases)}" for group, cases in groups.items())
        roles.append(f"  {json.dumps(role)}: {{\n{lines}\n  }}")
    file.write_text("{\n" + ",\n".join(roles) + "\n}\n", "utf-8")


def differences(expected: Verdicts, found: Verdicts, patterns: Sequence[str]) -> dict[str, str]:
    """Each case that fits a pattern and is not what was expected, in words; one that did not run is none either."""
    wanted = {case: verdict for case, verdict in expected.items() if fits(case, patterns)}
    return {
        case: f"{found.get(case, 'did not run')}, expected {wanted.get(case, 'no such case')}"
        for case in sorted(wanted.keys() | found.keys(), key=order)
        if wanted.get(case) != found.get(case)
    }


def fits(case: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(case, pattern) for pattern in patterns)
