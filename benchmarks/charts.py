"""The charts of docs/performance.md and the README, drawn from benchmarks/results/*.json:  python -m benchmarks.charts

SVG without a background of its own, in colours that can be read on white and on black.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .load import format_size
from .reports import RESULTS

CHARTS = Path(__file__).parent.parent / "docs" / "charts"
INK = "#7d8590"
"""Of text and lines: a grey that stands out from both backgrounds."""

OURS, OURS_PURE, THEIRS, LIMIT = "#2da44e", "#8250df", "#0a84d8", "#bf8700"
PEERS = ("#0a84d8", "#e16f24", "#d1242f", "#1b9aaa", "#c2569b", "#8c6d46")
"""Of the lines of peers: none of them green or violet, which are ours."""

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "wslowlevel",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.transparent": True,
}


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def colour(name: str) -> str:
    if name.startswith("wslowlevel"):
        return OURS_PURE if "python" in name else OURS
    return LIMIT if name == "raw" or name.startswith("(") else THEIRS


def source(about: dict[str, Any], names: Sequence[str]) -> str:
    """Two lines under a chart: the machine, the date and the versions."""
    versions = {name: text.partition(" ")[0] for name, text in about["versions"].items() if text != "missing"}
    packages = {name.replace(",", " ").replace(".", " ").replace("-", " ").split(" ")[0] for name in names}
    used = ", ".join(f"{name} {text}" for name, text in versions.items() if name in packages)
    return f"{about['machine']}, {about['python']}, {about['date']}\n{used}"


def finish(figure: Figure, name: str, title: str, note: str) -> Path:
    figure.suptitle(title, fontsize=11)
    figure.text(0.01, 0.005, note, fontsize=6.5, va="bottom")
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    CHARTS.mkdir(parents=True, exist_ok=True)
    file = CHARTS / f"{name}.svg"
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    return file


def bars(axes: Axes, values: dict[str, float], text: Callable[[float], str]) -> None:
    """Horizontal, the longest on top, each with its figure."""
    names = sorted(values, key=lambda name: values[name])
    drawn = axes.barh(names, [values[name] for name in names], color=[colour(name) for name in names])
    axes.bar_label(drawn, [text(values[name]) for name in names], padding=3, fontsize=7.5, color=INK)
    axes.set_xlim(0, max(values.values()) * 1.25)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)


# -- The charts -------------------------------------------------------------------------------------------------------


def draw_echo(loop: str) -> Path | None:
    data = load("echo")
    results = [each for each in data["results"] if each["loop"] == loop]
    if not results:
        return None
    shapes = list(dict.fromkeys(each["shape"] for each in results))
    figure, grid = plt.subplots(2, 2, figsize=(9, 6.4))
    for axes, shape in zip(grid.flat, shapes, strict=False):
        of_shape = {each["server"]: each["messages_per_second"] for each in results if each["shape"] == shape}
        bars(axes, of_shape, lambda value: f"{value:,.0f}")
        connections, in_flight, size = shape.split("x")
        plural = "" if connections == "1" else "s"
        axes.set_title(f"{connections} connection{plural}, {in_flight} in flight, {size}", fontsize=9)
    names = [*(each["server"] for each in results), loop, "aiofastnet"]
    return finish(figure, f"echo-{loop}", f"Messages a second, echo server on {loop}", source(data["about"], names))


def lines(
    axes: Axes, results: list[dict[str, Any]], value: Callable[[dict[str, Any]], float], names: Sequence[str]
) -> None:
    """A line a contender over the size, both axes logarithmic."""
    markers, colours = iter("osv^D<>pPX*h" * 2), iter(PEERS * 3)
    for name in names:
        points = sorted((each["size"], value(each)) for each in results if each["contender"] == name and each["size"])
        if points:
            style = "-" if name.startswith("wslowlevel") else "--"
            drawn = colour(name) if colour(name) != THEIRS else next(colours)
            x, y = zip(*points, strict=True)
            axes.plot(x, y, style, marker=next(markers), markersize=4, linewidth=1.3, color=drawn, label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(lambda size, _position: format_size(round(size)))
    axes.grid(visible=True, color=INK, alpha=0.2, linewidth=0.5)


def draw_calls(question: str, title: str, unit: str, value: Callable[[dict[str, Any]], float], **only: object) -> Path:
    data = load("calls")
    results = [
        each
        for each in data["results"]
        if each["question"] == question and all(each.get(key) == wanted for key, wanted in only.items())
    ]
    names = list(dict.fromkeys(each["contender"] for each in results))
    figure, axes = plt.subplots(figsize=(8, 4.6))
    lines(axes, results, value, names)
    axes.set_xlabel("payload")
    axes.set_ylabel(unit)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), labelcolor=INK)
    return finish(figure, question, title, source(data["about"], names))


def gigabytes(each: dict[str, Any]) -> float:
    return float(each["size"] / each["seconds"] / 1e9)


def nanoseconds(each: dict[str, Any]) -> float:
    return float(each["seconds"] / each["messages"] * 1e9)


def draw_memory() -> Path:
    data = load("memory")
    loops = list(dict.fromkeys(each["loop"] for each in data["results"]))
    figure, grid = plt.subplots(1, len(loops), figsize=(9, 3.6), squeeze=False)
    for axes, loop in zip(grid.flat, loops, strict=True):
        bars(
            axes,
            {each["server"]: each["bytes_each"] / 1024 for each in data["results"] if each["loop"] == loop},
            lambda value: f"{value:.1f} KiB",
        )
        axes.set_title(loop, fontsize=9)
    names = [*(each["server"] for each in data["results"]), *loops, "aiofastnet"]
    return finish(figure, "memory", "Resident memory of an idle connection", source(data["about"], names))


def draw_curves() -> Path:
    data = load("curves")
    curves = list(dict.fromkeys(each["curve"] for each in data["results"]))
    figure, grid = plt.subplots(2, 3, figsize=(9, 5.6))
    for axes, curve in zip(grid.flat, curves, strict=False):
        for each in (each for each in data["results"] if each["curve"] == curve):
            x, y = zip(*((point["n"], point["seconds"] * 1e3) for point in each["points"]), strict=True)
            shade = OURS if each["backend"] == "cython" else OURS_PURE
            label = f"{each['backend']}, n^{each['time_exponent']:.2f}"
            axes.plot(x, y, marker="o", markersize=3, linewidth=1.3, color=shade, label=label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(curve, fontsize=9)
        axes.set_xlabel(each["unit"])
        axes.set_ylabel("ms")
        axes.legend(fontsize=7, labelcolor=INK)
        axes.grid(visible=True, color=INK, alpha=0.2, linewidth=0.5)
    return finish(figure, "curves", "What a message costs", source(data["about"], ["wslowlevel"]))


def draw_all() -> list[Path]:
    """What there are results for."""
    drawn: list[Path | None] = []
    with plt.rc_context(STYLE):
        if (RESULTS / "calls.json").exists():
            drawn += [
                draw_calls("mask", "Unmasking", "GB/s", gigabytes),
                draw_calls("decode", "Decoding masked binary messages", "ns a message", nanoseconds, kind="binary"),
                draw_calls("encode", "Building a masked frame", "ns a frame", nanoseconds, masked=True),
                draw_calls("utf8", "Validating text in Chinese", "GB/s", gigabytes, alphabet="Chinese"),
            ]
        if (RESULTS / "echo.json").exists():
            drawn += [draw_echo("asyncio"), draw_echo("uvloop")]
        if (RESULTS / "memory.json").exists():
            drawn.append(draw_memory())
        if (RESULTS / "curves.json").exists():
            drawn.append(draw_curves())
    return [file for file in drawn if file]


if __name__ == "__main__":
    for file in draw_all():
        print(file)
