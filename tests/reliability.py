"""What was tried, and what it took: cases of conformance, hostile scenarios, fuzzed inputs -> docs/reliability.md

python -m tests.reliability                   everything, on both backends
python -m tests.reliability --parts fuzzing   one part; the others keep what stands in build/reliability

Exit code 0: everything as promised; 1: something was not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rich.console import Console

from .autobahn import suite
from .autobahn.fuzzing import ROOT
from .autobahn.report import made
from .autobahn.results import Run
from .autobahn.run import BACKENDS, PROTOCOL, ROLES, compare, run_all

DIRECTORY = ROOT / "build" / "reliability"
PAGE = ROOT / "docs" / "reliability.md"

PYTEST = [sys.executable, "-m", "pytest", "-q", "-o", "junit_family=xunit1"]

Figures = dict[str, Any]

console = Console(highlight=False)


class Part(NamedTuple):
    """One kind of trial: `measure` takes the arguments of the command line, `lines` shows what came of it."""

    measure: Callable[[argparse.Namespace], Figures]
    lines: Callable[[Figures], list[str]]


def table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Markdown; every column but the first is of numbers."""
    ruler = ["---", *["---:"] * (len(names) - 1)]
    return [f"| {' | '.join(map(str, row))} |" for row in (names, ruler, *rows)]


# -- Conformance ------------------------------------------------------------------------------------------------------


def measure_conformance(options: argparse.Namespace) -> Figures:
    runs = [Run(role, backend) for backend in BACKENDS for role in ROLES]
    results = asyncio.run(run_all(runs, suite.wstest(None), PROTOCOL, DIRECTORY / "conformance", os.cpu_count() or 1))
    compare(results, PROTOCOL)
    return {
        "good": results.good,
        "version": suite.version(),
        "runs": {run.name: results.counts(run) for run in results.outcomes},
    }


def lines_of_conformance(figures: Figures) -> list[str]:
    rows = [(name.replace("-", ", "), *counts) for name, counts in figures["runs"].items()]
    return [
        "## Conformance",
        "",
        f"The Autobahn test suite {figures['version']}, sections 1-7 and 10, counted strictly.",
        "",
        *table(["role, backend", "cases", "OK", "informational", "anything else"], rows),
    ]


# -- Hostile scenarios ------------------------------------------------------------------------------------------------


class Column(NamedTuple):
    title: str
    figure: str
    form: str
    scale: float = 1.0

    def cell(self, of: Figures) -> str:
        """The figure of each backend, nothing where there is none."""
        worst = [of.get(backend, {}).get(self.figure) for backend in BACKENDS]
        if not any(worst):
            return ""
        return " / ".join("" if each is None else format(each * self.scale, self.form) for each in worst)


COLUMNS = (
    Column("peak, KiB", "peak bytes", ",.0f", 1 / 1024),
    Column("CPU, s", "cpu seconds", ".2f"),
    Column("others waited, ms", "others waited seconds", ".0f", 1000.0),
)


def measure_scenarios(options: argparse.Namespace) -> Figures:
    figures: Figures = {"good": True, "cases": {}, "scenarios": {}}
    for backend in BACKENDS:
        report = DIRECTORY / f"hostile-{backend}.xml"
        command = [*PYTEST, "tests/hostile", "--slow", f"--junitxml={report}"]
        ended = subprocess.run(command, cwd=ROOT, env={**os.environ, "WSLOWLEVEL_BACKEND": backend}, check=False)
        figures["good"] &= ended.returncode == 0
        cases = list(ET.parse(report).iter("testcase"))
        figures["cases"][backend] = len(cases)
        for case in cases:
            note_scenario(figures["scenarios"], backend, case)
    return figures


def note_scenario(scenarios: Figures, backend: str, case: ET.Element) -> None:
    """Of all cases of one test the worst: the highest peak, the longest time."""
    figures = {each.attrib["name"]: each.attrib["value"] for each in case.iter("property")}
    scenario = scenarios.setdefault(figures.pop("scenario"), {}).setdefault(backend, {"cases": 0, "failed": 0})
    scenario["cases"] += 1
    scenario["failed"] += any(case.find(ending) is not None for ending in ("failure", "error"))
    for name, value in figures.items():
        scenario[name] = max(scenario.get(name, 0.0), float(value))


def lines_of_scenarios(figures: Figures) -> list[str]:
    rows = []
    for scenario, of in figures["scenarios"].items():
        tried = sum(worst["cases"] for worst in of.values())
        survived = tried - sum(worst["failed"] for worst in of.values())
        rows.append((scenario, f"{survived} of {tried}", *(column.cell(of) for column in COLUMNS)))
    return [
        "## Hostile peers",
        "",
        f"{sum(figures['cases'].values()):,} cases, most of them against a real server in a process of its own,",
        "on both backends and both event loops, with the default limits unless a scenario is about another.",
        "Survived: the right close code and error, memory and time within bounds, no task and no descriptor left.",
        "Then the worst of all cases of a scenario: by how much the server's memory grew at its peak, how long it",
        f"ran, and how long another connection waited for its echo ({' / '.join(BACKENDS)}).",
        "",
        *table(["scenario", "survived", *(column.title for column in COLUMNS)], rows),
    ]


# -- Fuzzing ----------------------------------------------------------------------------------------------------------


def measure_fuzzing(options: argparse.Namespace) -> Figures:
    report = DIRECTORY / "fuzzing.json"
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", str(options.seconds), "--json", str(report)]
    ended = subprocess.run(command, cwd=ROOT, check=False)
    return {"good": ended.returncode == 0, "targets": json.loads(report.read_text())}


def lines_of_fuzzing(figures: Figures) -> list[str]:
    rows = [
        (name, f"{each['inputs']:,}", f"{each['seconds']:,.0f}", each["crashes"])
        for name, each in figures["targets"].items()
    ]
    return [
        "## Fuzzing",
        "",
        "Any bytes, any cuts, any arguments: both backends against each other, and against an independent reference",
        "where there is one; guided by the coverage of the pure-Python codec, from a kept corpus.",
        "",
        *table(["target", "inputs", "seconds", "crashes or differences"], rows),
    ]


# -- Sanitizers -------------------------------------------------------------------------------------------------------


def measure_sanitizers(options: argparse.Namespace) -> Figures:
    ended = subprocess.run([sys.executable, "-m", "tests.sanitize"], cwd=ROOT, check=False)
    suite_of = ET.parse(ROOT / "build" / "sanitize.xml").getroot().find("testsuite")
    assert suite_of is not None
    return {
        "good": ended.returncode == 0,
        **{name: int(suite_of.attrib[name]) for name in ("tests", "failures", "errors")},
    }


def lines_of_sanitizers(figures: Figures) -> list[str]:
    failed = figures["failures"] + figures["errors"]
    return [
        "## Sanitizers",
        "",
        "The suite on a build with AddressSanitizer, UndefinedBehaviorSanitizer and Cython's own checks.",
        "",
        *table(["build", "tests", "failed"], [("compiled", f"{figures['tests']:,}", failed)]),
    ]


# -- A long time ------------------------------------------------------------------------------------------------------


def measure_soak(options: argparse.Namespace) -> Figures:
    report = DIRECTORY / "soak-loops.json"
    command = [sys.executable, "-m", "tests.hostile.soak", "--minutes", str(options.minutes), "--json", str(report)]
    ended = subprocess.run(command, cwd=ROOT, check=False)
    return {"good": ended.returncode == 0, "loops": json.loads(report.read_text())}


def lines_of_soak(figures: Figures) -> list[str]:
    rows = []
    for loop, result in figures["loops"].items():
        last, verdict = result["looks"][-1], "grows" if result["grows"] else "does not grow"
        left = (f"{result['blocks']:+.4f}", f"{result['allocated']:+.1f}", f"{result['resident']:+.1f}")
        size = f"{last['resident'] / 1024:,.0f}"
        rows.append((loop, f"{last['minutes']:.0f}", f"{last['peers']:,}", size, *left, verdict))
    return [
        "## A long time",
        "",
        "Good and bad peers, twenty at a time: conversations, violations, resets, bombs, silence. Descriptors and",
        "tasks are those of the beginning whenever all is quiet. Then what each peer of the second half left behind:",
        "blocks of Python's allocator in use, bytes of malloc in use, and bytes that are resident, which also rise",
        "where long-lived things come to lie between short-lived ones, and are not judged.",
        "",
        *table(
            [
                "loop",
                "minutes",
                "peers",
                "resident at the end, KiB",
                "blocks",
                "malloc, bytes",
                "resident, bytes",
                "verdict",
            ],
            rows,
        ),
    ]


# -- All of it --------------------------------------------------------------------------------------------------------

PARTS = {
    "conformance": Part(measure_conformance, lines_of_conformance),
    "scenarios": Part(measure_scenarios, lines_of_scenarios),
    "fuzzing": Part(measure_fuzzing, lines_of_fuzzing),
    "sanitizers": Part(measure_sanitizers, lines_of_sanitizers),
    "soak": Part(measure_soak, lines_of_soak),
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name in options.parts:
        console.rule(name)
        start = time.perf_counter()
        figures = {**PARTS[name].measure(options), "made": made()}
        (DIRECTORY / f"{name}.json").write_text(json.dumps(figures, indent=1))
        console.print(f"{name}: {'good' if figures['good'] else 'NOT good'}, {time.perf_counter() - start:.0f} s")
    measured = {name: json.loads(file.read_text()) for name in PARTS if (file := DIRECTORY / f"{name}.json").exists()}
    PAGE.write_text("\n".join(page(measured)) + "\n", "utf-8")
    console.print(f"written: {PAGE}")
    return 0 if all(figures["good"] for figures in measured.values()) else 1


def page(measured: dict[str, Figures]) -> list[str]:
    lines = ["# Reliability, as measured", "", "`make reliability` makes these figures and this page again."]
    for name, figures in measured.items():
        lines += ["", *PARTS[name].lines(figures), "", f"Measured with {figures['made']}."]
    return lines


def build_parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.reliability", description=__doc__, formatter_class=form)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all of them")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the soak (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=600, help="of fuzzing (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
