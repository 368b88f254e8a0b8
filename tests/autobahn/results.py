"""What is run, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

OK = "OK/OK"
INFORMATIONAL = "INFORMATIONAL/INFORMATIONAL"


@dataclass(frozen=True)
class Run:
    """Our peer in one of two roles, "server" or "client", on one backend, "cython" or "python"."""

    role: str
    backend: str

    @property
    def name(self) -> str:
        return f"{self.role}-{self.backend}"


@dataclass(frozen=True)
class Outcome:
    """What wstest says of a case.

    Attributes:
        verdict: on the behaviour, and on how the connection was closed: "OK/OK", "NON-STRICT/OK", ...
        seconds: that the case took.
        details: name of the JSON file about it, in the directory of the run.
    """

    verdict: str
    seconds: float
    details: str


@dataclass
class Results:
    """What came of all runs.

    Attributes:
        outcomes: of each run that came to its end, by case.
        seconds: that each run took.
        differences: from what was expected, by case, in words.
        failures: of the runs that came to no end, in words.
    """

    outcomes: dict[Run, dict[str, Outcome]] = field(default_factory=dict)
    seconds: dict[Run, float] = field(default_factory=dict)
    differences: dict[Run, dict[str, str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.failures and not any(self.differences.values())

    def problems(self) -> Iterator[str]:
        """A line for everything that is not good."""
        yield from self.failures
        for run, cases in self.differences.items():
            yield from (f"{run.name}: case {case}: {text}" for case, text in cases.items())

    def counts(self, run: Run) -> tuple[int, int, int, int]:
        """Of the cases of a run: how many there were, were OK, were informational, and were anything else."""
        verdicts = [outcome.verdict for outcome in self.outcomes[run].values()]
        ok, informational = verdicts.count(OK), verdicts.count(INFORMATIONAL)
        return len(verdicts), ok, informational, len(verdicts) - ok - informational


def verdicts(outcomes: dict[str, Outcome]) -> dict[str, str]:
    """By case."""
    return {case: outcome.verdict for case, outcome in outcomes.items()}


def order(case: str) -> tuple[int, ...]:
    """By which cases are sorted: 9.1.1 before 10.1.1."""
    return tuple(map(int, case.split(".")))
