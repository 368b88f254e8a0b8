"""Everything, with the peers: writes benchmarks/results/*.json and the charts made of them.

The questions that are asked in one process go through pytest-benchmark in several passes, so that the contenders take
turns (A B C, A B C) while the machine drifts; a figure is the median of the passes' medians. The echo servers take
turns round by round. --quick shows that everything runs; its figures mean little.

Run it:  python -m benchmarks.suite [--parts calls echo memory curves charts] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import bench_curves, bench_echo, bench_memory, charts
from .reports import RESULTS, write_results

PARTS = ("calls", "echo", "memory", "curves", "charts")
QUESTIONS = ("mask", "header", "decode", "encode", "utf8", "iterate")
HERE = Path(__file__).parent
CORE = 1


def run_pass(question: str, backend: str, seconds: float) -> list[dict[str, Any]]:
    """One pass over a question: what pytest-benchmark wrote."""
    with tempfile.TemporaryDirectory() as directory:
        written = Path(directory) / "pass.json"
        command = [sys.executable, "-m", "pytest", str(HERE / f"bench_{question}.py"), "--peers", "--quiet"]
        command += [f"--core={CORE}", "--benchmark-enable", f"--benchmark-json={written}", "--benchmark-quiet"]
        command += [f"--benchmark-max-time={seconds}", "--benchmark-min-rounds=3"]
        environment = {**os.environ, "WSLOWLEVEL_BACKEND": backend}
        done = subprocess.run(command, cwd=HERE.parent, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        found: list[dict[str, Any]] = json.loads(written.read_text())["benchmarks"]
        return found


def runs(question: str) -> list[str]:
    """The backends that a pass has to be made with: the event loop's side has one in a process."""
    return ["cython", "python"] if question in ("iterate", "encode") else ["cython"]


def calls(passes: int, seconds: float, tick: Callable[[str], None]) -> list[dict[str, Any]]:
    medians: dict[str, list[float]] = defaultdict(list)
    about: dict[str, dict[str, Any]] = {}
    for number in range(passes):
        for question in QUESTIONS:
            for backend in runs(question):
                tick(f"{question}, pass {number + 1} of {passes}")
                for each in run_pass(question, backend, seconds):
                    key = f"{each['group']} {each['extra_info']['contender']}"
                    about[key] = {"group": each["group"], **each["extra_info"]}
                    medians[key].append(each["stats"]["median"])
    return [{**about[key], "seconds": statistics.median(found), "passes": found} for key, found in medians.items()]


def table(results: list[dict[str, Any]]) -> str:
    """For each group, the time of a message of each contender, and how many times ours it is."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in results:
        groups[each["group"]].append(each)
    lines = []
    for group, members in groups.items():
        ours = min(each["seconds"] for each in members if each["contender"].startswith("wslowlevel"))
        lines.append(f"\n{group}")
        for each in sorted(members, key=lambda member: member["seconds"]):
            time = each["seconds"] / each["messages"]
            rate = f"{each['size'] / time / 1e9:8.2f} GB/s" if each["size"] >= 1024 else " " * 13
            lines.append(f"  {each['contender']:44}{time * 1e9:14,.1f} ns {rate}{each['seconds'] / ours:9.2f} x")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.suite", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--passes", type=int, default=5, help="of the questions in one process (default: %(default)s)")
    arguments = parser.parse_args()
    failed = 0
    if "calls" in arguments.parts:
        time_calls(1 if arguments.quick else arguments.passes, 0.02 if arguments.quick else 0.1)
    if "echo" in arguments.parts:
        few = ["--seconds", "0.1", "--rounds", "2"] if arguments.quick else []
        bench_echo.main([*few, "--json", str(RESULTS / "echo.json")])
    if "memory" in arguments.parts:
        few = ["--connections", "1000"] if arguments.quick else []
        failed += bench_memory.main([*few, "--json", str(RESULTS / "memory.json")])
    if "curves" in arguments.parts:
        failed += bench_curves.main(["--json", str(RESULTS / "curves.json")])
    if "charts" in arguments.parts:
        for file in charts.draw_all():
            print(f"drawn: {file.relative_to(HERE.parent)}")
    return 1 if failed else 0


def time_calls(passes: int, seconds: float) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True, console=Console(stderr=True)) as progress:
        task = progress.add_task("calls", total=passes * sum(len(runs(question)) for question in QUESTIONS))
        results = calls(passes, seconds, lambda text: progress.update(task, advance=1, description=text))
    print(table(results))
    write_results(RESULTS / "calls.json", results)


if __name__ == "__main__":
    sys.exit(main())
