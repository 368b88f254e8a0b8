"""What the drop-in brings on this machine: the same work with and without it, in turns"""

from __future__ import annotations

from ..dropin import install, samples, status, uninstall
from .bench import seconds_of

ROUNDS = 3


def gains(library: str) -> dict[str, tuple[float, float]]:
    """Seconds that each kind of work of a library takes, without and with the drop-in.

    Each is the best of three rounds, and the rounds of both take turns. Afterwards the library is as it was before.
    """
    was_installed = status(library)[0].state == "installed"
    found = {}
    for name, work in samples(library).items():
        without, with_it = [], []
        for _ in range(ROUNDS):
            uninstall(library)
            without.append(seconds_of(work))
            install(library)
            with_it.append(seconds_of(work))
        found[name] = (min(without), min(with_it))
    if not was_installed:
        uninstall(library)
    return found
