"""The Autobahn test suite against our server and our client, on both backends.

python -m tests.autobahn.run          sections 1-7 and 10
python -m tests.autobahn.run --full   9, 12 and 13 too: limits, performance and compression

The outcome is compared with tests/autobahn/expected.json. Exit code 0: as expected; 1: a difference, or a run that
failed; 2: no Python 2.7 for the suite.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from . import expected, report, suite
from .fuzzing import ROOT, RunFailedError, Tell, examine
from .results import Results, Run, verdicts

ROLES = ("server", "client")
BACKENDS = ("cython", "python")

PROTOCOL = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*")
FULL = (*PROTOCOL, "9.*", "12.*", "13.*")

LINE = 50
"""Cases between two lines of progress where there is no terminal."""

console = Console(highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    try:
        wstest = suite.wstest(options.python2)
    except suite.SuiteUnavailableError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    cases = options.cases or (FULL if options.full else PROTOCOL)
    runs = [Run(role, backend) for backend in options.backend or BACKENDS for role in options.role or ROLES]
    try:
        results = asyncio.run(run_all(runs, wstest, cases, options.directory.resolve(), options.jobs))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("conformance: interrupted", file=sys.stderr)
        return 1
    if options.accept:
        accept(results)
    compare(results, cases)
    say(results, report.write(results, options.directory))
    return 0 if results.good else 1


def build_parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.autobahn.run", description=__doc__, formatter_class=form)
    parser.add_argument("--full", action="store_true", help="all sections; it takes the better part of an hour")
    parser.add_argument("--cases", nargs="+", metavar="PATTERN", help="only these, such as 6.4.*")
    parser.add_argument("--role", nargs="+", choices=ROLES, help="of ours; default: both")
    parser.add_argument("--backend", nargs="+", choices=BACKENDS, help="default: both")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time (default: %(default)s)")
    parser.add_argument("--python2", default=os.environ.get(suite.VARIABLE), help="interpreter for the test suite")
    parser.add_argument("--accept", action="store_true", help="write what comes out into expected.json")
    parser.add_argument(
        "--directory", type=Path, default=ROOT / "build" / "conformance", help="for the report (default: %(default)s)"
    )
    return parser


# -- The runs ---------------------------------------------------------------------------------------------------------


async def run_all(runs: Sequence[Run], wstest: list[str], cases: Sequence[str], directory: Path, jobs: int) -> Results:
    """Each run, so many at a time. Cancelled, or told to by a signal, it ends what it started."""
    results = Results()
    places = asyncio.Semaphore(jobs)

    async def one(run: Run, tell: Tell) -> None:
        async with places:
            start = time.perf_counter()
            try:
                results.outcomes[run] = await examine(run, wstest, cases, directory / run.name, tell)
            except RunFailedError as error:
                results.failures.append(str(error))
            results.seconds[run] = time.perf_counter() - start

    with stopped_by(signal.SIGTERM, signal.SIGHUP), progress() as tellers:
        tasks = [asyncio.create_task(one(run, tellers(run))) for run in runs]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
    results.outcomes = {run: results.outcomes[run] for run in runs if run in results.outcomes}
    return results


@contextmanager
def stopped_by(*signals: signal.Signals) -> Iterator[None]:
    """Let signals that are not ignored cancel this task, as Ctrl-C does."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    heeded = [each for each in signals if signal.getsignal(each) is not signal.SIG_IGN]
    for each in heeded:
        loop.add_signal_handler(each, task.cancel)
    try:
        yield
    finally:
        for each in heeded:
            loop.remove_signal_handler(each)


@contextmanager
def progress() -> Iterator[Callable[[Run], Tell]]:
    """A bar for each run on a terminal, otherwise a line now and then."""
    if not console.is_terminal:
        yield told_in_lines
        return
    columns = (TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[case]}"), console=console) as bars:

        def bar(run: Run) -> Tell:
            task = bars.add_task(run.name, total=None, case="waits")

            def tell(case: str, number: int, count: int) -> None:
                bars.update(task, completed=number, total=count, case=case)

            return tell

        yield bar


def told_in_lines(run: Run) -> Tell:
    def tell(case: str, number: int, count: int) -> None:
        if number % LINE == 0 or number == count:
            print(f"{run.name:<14} {number:>4} of {count}  {case}", flush=True)

    return tell


# -- The outcome ------------------------------------------------------------------------------------------------------


def accept(results: Results) -> None:
    known = expected.load()
    for run, outcomes in results.outcomes.items():
        known.setdefault(run.role, {}).update(verdicts(outcomes))
    expected.save(known)


def compare(results: Results, cases: Sequence[str]) -> None:
    known = expected.load()
    for run, outcomes in results.outcomes.items():
        results.differences[run] = expected.differences(known[run.role], verdicts(outcomes), cases)


def say(results: Results, page: Path) -> None:
    table = Table("role", "backend", title=f"Autobahn test suite {suite.version()}", title_justify="left")
    for name in ("cases", "OK", "informational", "other", "seconds"):
        table.add_column(name, justify="right")
    for run in results.outcomes:
        table.add_row(run.role, run.backend, *map(str, results.counts(run)), f"{results.seconds[run]:.0f}")
    console.print(table)
    for line in results.problems():
        print(line)
    print(f"{'as expected' if results.good else 'NOT as expected'}: {page}")


if __name__ == "__main__":
    sys.exit(main())
