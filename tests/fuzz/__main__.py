"""Look for bytes that break an invariant of the codec, from the kept corpus on.

python -m tests.fuzz                          a minute, over all targets
python -m tests.fuzz --seconds 600 --keep     longer, and keep what reached new code
python -m tests.fuzz --replay decoders FILE   what an input does

Exit code 0: every invariant held; 1: one did not, and the input that broke it stands in build/fuzz.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import corpus
from .targets import TARGETS

ROOT = Path(__file__).parent.parent.parent
FOUND = ROOT / "build" / "fuzz"

MAX_LENGTH = 4096
"""Bytes of an input."""

LINE = 15.0
"""Seconds between two lines of progress of a target."""

PULSE = re.compile(r"#(\d+)\s.*corp: (\d+)")
EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    if options.replay:
        name, file = options.replay
        TARGETS[name](Path(file).read_bytes())
        print(f"{name}: the invariant holds")
        return 0
    FOUND.mkdir(parents=True, exist_ok=True)
    share = max(1, options.seconds * options.jobs // len(options.targets))
    with ThreadPoolExecutor(options.jobs) as pool:
        results = dict(pool.map(lambda name: (name, fuzz(name, share, options.keep)), options.targets))
    for name, result in results.items():
        print(f"{name:<12} {result['inputs']:>12,} inputs  {result['seconds']:>6.0f} s  {result['crashes']} broken")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return int(any(result["crashes"] for result in results.values()))


def fuzz(name: str, seconds: int, keep: bool) -> dict[str, Any]:
    """Run one target for so many seconds -> how many inputs it tried, and how many broke its invariant."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        for number, each in enumerate(corpus.load(name)):
            (work / f"kept-{number}").write_bytes(each)
        inputs, said = watched(
            name, run(name, work, f"-max_total_time={seconds}", f"-timeout={seconds + 60}"), begun, seconds
        )
        if keep:
            corpus.save(name, (file.read_bytes() for file in work.iterdir()))
    crashes = said.count("Test unit written to ")
    for file in re.findall(r"Test unit written to (\S+)", said):
        print(f"{name}: broken, see python -m tests.fuzz --replay {name} {file}\n{said[-3000:]}", flush=True)
    return {"inputs": inputs, "seconds": time.perf_counter() - begun, "crashes": crashes}


def run(name: str, *arguments: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.fuzz.child", name, f"-max_len={MAX_LENGTH}", "-print_final_stats=1"]
    return subprocess.Popen(
        [*command, f"-artifact_prefix={FOUND}/{name}-", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


def watched(name: str, process: subprocess.Popen[str], begun: float, seconds: int) -> tuple[int, str]:
    """Tell now and then how it goes; return how many inputs were tried, and the end of what was said."""
    lines: list[str] = []
    inputs, told = 0, begun
    for line in lines_of(process):
        lines = [*lines[-200:], line]
        if found := EXECUTED.search(line):
            inputs = int(found[1])
        if (pulse := PULSE.search(line)) and time.perf_counter() - told > LINE:
            told = time.perf_counter()
            ran = told - begun
            left = max(0.0, seconds - ran)
            rate = int(pulse[1]) / ran
            print(
                f"{name:<12} {int(pulse[1]):>12,} inputs, {rate:,.0f} a second, corpus {pulse[2]}, {left:.0f} s left",
                flush=True,
            )
    if not inputs and process.returncode:
        raise SystemExit(f"{name} did not run:\n{''.join(lines)}")
    return inputs, "".join(lines)


def lines_of(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stderr is not None
    with process:
        yield from process.stderr


def build_parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__, formatter_class=form)
    parser.add_argument("--seconds", type=int, default=60, help="in all (default: %(default)s)")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS), help="default: all of them")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="write what reached new code into tests/fuzz/corpus")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts there as well")
    parser.add_argument("--replay", nargs=2, metavar=("TARGET", "FILE"), help="run one input and do nothing else")
    return parser


if __name__ == "__main__":
    sys.exit(main())
