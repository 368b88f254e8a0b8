"""How many messages a second does an echo server send back, and what does each cost?

Each server has a process of its own on one core; one process on another core is the load of all of them (load.py), and
compares every byte that comes back. The servers take turns, round by round, so that whatever else the machine does
falls on all of them, and start anew for each round, for two processes of one server differ by some percent. Figures
are medians over the rounds:

    msg/s       messages echoed
    rate x      how many times its rate the first server has: the median of the ratios within each round
    us/msg      microseconds of CPU of the server's process for a message
    cpu x       how many times the first server's CPU for a message it takes, likewise
    server      share of its core that the server's process used
    queued      share of the time in which it could have run and something else had its core: 0 % on a quiet machine,
                and with more of it only `us/msg` and `cpu x` mean anything
    load        share of its core that the load used: near 100 % it is the load that was measured
    p50, p99    round trip in microseconds, where one message is in flight

A server is a name, or NAME@CHECKOUT for the wslowlevel of another checkout (built in place there), as in

    python -m benchmarks.bench_echo --servers wslowlevel wslowlevel@../other picows raw --shapes 8x16x125

Without @, wslowlevel comes from PYTHONPATH if it is there, else from what is installed. It needs Linux, for its cores.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.progress import Progress, TaskID

from . import servers
from .load import Load, Played, Shape
from .processes import ServerProcess
from .reports import write_results

SHAPES = ("1x1x125", "8x16x125", "8x8x16KiB", "4x2x1MiB")
SERVERS = [*servers.SERVERS, *servers.ON_FASTNET, servers.NODE]
WARM_UP = 0.2
"""Seconds that every server plays before a round."""


@dataclass
class Contender:
    label: str
    rounds: list[Played] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        return [each.messages / each.seconds for each in self.rounds]

    @property
    def costs(self) -> list[float]:
        """Microseconds of CPU for a message."""
        return [each.server_cpu / each.messages * 1e6 for each in self.rounds]

    def result(self, first: Contender) -> dict[str, Any]:
        trips = sorted(trip for each in self.rounds for trip in each.round_trips)
        return {
            "server": self.label,
            "messages_per_second": median(self.rates),
            "rate_ratio": median(ours / its for ours, its in zip(first.rates, self.rates, strict=True)),
            "cpu_us_per_message": median(self.costs),
            "cpu_ratio": median(its / ours for ours, its in zip(first.costs, self.costs, strict=True)),
            "server_busy": median(each.server_cpu / each.seconds for each in self.rounds),
            "server_queued": median(each.server_queued / each.seconds for each in self.rounds),
            "load_busy": median(each.load_cpu / each.seconds for each in self.rounds),
            "p50_us": trips[len(trips) // 2] * 1e6 if trips else None,
            "p99_us": trips[len(trips) * 99 // 100] * 1e6 if trips else None,
            "rates": self.rates,
            "costs_us": self.costs,
        }


def play_round(
    processes: list[ServerProcess], contenders: list[Contender], shape: Shape, arguments: argparse.Namespace, tick: Any
) -> None:
    loads = [Load(each.port, shape, each.name == "raw") for each in processes]
    turns = list(zip(processes, loads, contenders, strict=True))
    first = len(contenders[0].rounds) % len(turns)  # another one each time
    turns = turns[first:] + turns[:first]
    for process, load, _ in turns:
        load.play(WARM_UP, process.times)
    for process, load, contender in turns:
        contender.rounds.append(load.play(arguments.seconds, process.times))
        tick(f"{shape} {contender.label}")
    for load in loads:
        load.close()


def table(results: list[dict[str, Any]]) -> str:
    timed = results[0]["p50_us"] is not None
    columns = f"{'msg/s':>12}{'rate x':>8}{'us/msg':>10}{'cpu x':>7}{'server':>8}{'queued':>8}{'load':>6}"
    lines = [" " * 26 + columns + (f"{'p50':>9}{'p99':>9}" if timed else "")]
    for each in results:
        lines.append(
            f"{each['server'][-25:]:26}{each['messages_per_second']:12,.0f}{each['rate_ratio']:8.2f}"
            f"{each['cpu_us_per_message']:10.2f}{each['cpu_ratio']:7.2f}{each['server_busy']:8.0%}"
            f"{each['server_queued']:8.0%}{each['load_busy']:6.0%}"
            + (f"{each['p50_us']:9.1f}{each['p99_us']:9.1f}" if timed else "")
        )
    return "\n".join(lines)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.bench_echo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--servers", nargs="+", metavar="SERVER", default=SERVERS, help=", ".join([*SERVERS, *servers.OTHERS]))
    add("--loops", nargs="+", choices=("asyncio", "uvloop"), default=("asyncio", "uvloop"))
    add(
        "--shapes",
        nargs="+",
        metavar="SHAPE",
        default=SHAPES,
        help=f"CONNECTIONSxIN_FLIGHTxSIZE (default: {' '.join(SHAPES)})",
    )
    add("--seconds", type=float, default=0.5, help="of a round (default: %(default)s)")
    add("--rounds", type=int, default=9, help="(default: %(default)s)")
    add("--server-core", type=int, default=0, help="(default: %(default)s)")
    add("--load-core", type=int, default=1, help="(default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write the results there as well")
    return parser.parse_args(arguments)


def measure(arguments: argparse.Namespace, loop: str, names: list[str], tick: Any) -> list[dict[str, Any]]:
    shapes = {Shape.parse(text): [Contender(name) for name in names] for text in arguments.shapes}
    for number in range(arguments.rounds):
        processes = [ServerProcess(name, loop, arguments.server_core) for name in names]
        if number == 0:
            print(f"\n{processes[0].about['loop']}, Python {processes[0].about['python']}")
            for process in processes:
                print(f"  {process.label:26}{process.about['server']}")
        for shape, contenders in shapes.items():
            play_round(processes, contenders, shape, arguments, tick)
        for process in processes:
            process.stop()
    results = []
    for shape, contenders in shapes.items():
        of_shape = [each.result(contenders[0]) for each in contenders]
        print(f"\n{shape}, {loop}, {arguments.rounds} rounds of {arguments.seconds} s\n{table(of_shape)}")
        results += [{"loop": loop, "shape": str(shape), **result} for result in of_shape]
    return results


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    names = [name for name in arguments.servers if servers.installed(servers.package_of(name.partition("@")[0]))]
    for name in set(arguments.servers) - set(names):
        print(f"not installed: {name}")
    os.sched_setaffinity(0, {arguments.load_core})
    results = []
    with Progress(transient=True) as progress:
        plays = len(arguments.loops) * len(arguments.shapes) * len(names) * arguments.rounds
        task: TaskID = progress.add_task("echo", total=plays)
        for loop in arguments.loops:
            results += measure(arguments, loop, names, lambda text: progress.update(task, advance=1, description=text))
    if arguments.json:
        write_results(arguments.json, results)


if __name__ == "__main__":
    main()
