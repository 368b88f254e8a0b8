"""results -> one page that shows every case, with links to what wstest says of it"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from string import Template

from wslowlevel import __version__

from . import suite
from .results import INFORMATIONAL, OK, Results, Run, order

PAGE = Path(__file__).with_name("report.html")

SECTIONS = {
    "1": "Framing",
    "2": "Pings and pongs",
    "3": "Reserved bits",
    "4": "Opcodes",
    "5": "Fragmentation",
    "6": "UTF-8",
    "7": "Closing",
    "9": "Limits and performance",
    "10": "Automatic fragmentation",
    "12": "Compression: payloads",
    "13": "Compression: parameters",
}

CLASSES = {OK: "good", INFORMATIONAL: "note"}
"""How a verdict is shown; every other one as bad."""


def write(results: Results, directory: Path) -> Path:
    """Write index.html beside the directories of the runs, and return its path."""
    page = Template(PAGE.read_text("utf-8")).substitute(
        version=suite.version(),
        made=escape(made()),
        verdict="Every case as expected." if results.good else "Not as expected.",
        **{"class": "good" if results.good else "bad"},
        problems=problems(results),
        summary="\n".join(summary(run, results) for run in results.outcomes),
        sections="\n".join(sections(results, directory)),
    )
    file = directory / "index.html"
    directory.mkdir(parents=True, exist_ok=True)
    file.write_text(page, "utf-8")
    return file


def made() -> str:
    when = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"wslowlevel {__version__}, {python}, {platform.system()} {platform.machine()}, {when}"


def problems(results: Results) -> str:
    items = "".join(f'<li class="bad">{escape(line)}' for line in results.problems())
    return f"<ul>{items}</ul>" if items else ""


def summary(run: Run, results: Results) -> str:
    numbers = (*results.counts(run), round(results.seconds[run]))
    cells = "".join(f'<td class="number">{number:,}' for number in numbers)
    return f"<tr><td>{run.role}<td>{run.backend}{cells}"


def sections(results: Results, directory: Path) -> Iterator[str]:
    cases = sorted({case for outcomes in results.outcomes.values() for case in outcomes}, key=order)
    runs = "".join(f'<th class="run">{run.role}, {run.backend}' for run in results.outcomes)
    for section in dict.fromkeys(case.split(".")[0] for case in cases):
        rows = "\n".join(row(case, results, directory) for case in cases if case.split(".")[0] == section)
        yield f"<section><h2>{section} {SECTIONS.get(section, '')}</h2>"
        yield f"<table><thead><tr><th>case<th>what the suite does{runs}</thead>"
        yield f"<tbody>\n{rows}\n</tbody></table></section>"


def row(case: str, results: Results, directory: Path) -> str:
    cells = "".join(cell(case, run, results) for run in results.outcomes)
    return f'<tr><td class="case">{case}<td class="what">{escape(description(case, results, directory))}{cells}'


def cell(case: str, run: Run, results: Results) -> str:
    differs = " differs" if case in results.differences.get(run, ()) else ""
    outcome = results.outcomes[run].get(case)
    if outcome is None:
        return f'<td class="run{differs}">did not run'
    behavior, closing = outcome.verdict.split("/")
    shown = behavior if closing == behavior else f"{behavior}, closing {closing}"
    link = f"{run.name}/{Path(outcome.details).stem}.html"
    text = f'<a class="{CLASSES.get(outcome.verdict, "bad")}" href="{escape(link)}">{escape(shown)}</a>'
    return f'<td class="run{differs}" title="{outcome.seconds:.2f} s">{text}'


def description(case: str, results: Results, directory: Path) -> str:
    """In the words of the suite, on one line and without its markup."""
    for run, outcomes in results.outcomes.items():
        if case in outcomes:
            details = json.loads((directory / run.name / outcomes[case].details).read_text("utf-8"))
            return " ".join(re.sub(r"<[^>]*>", " ", details["description"]).split())
    return ""
