"""a clock and what was received -> when to ping, and when to give a connection up  (RFC 6455 §5.5.2)

Without I/O: whoever drives it asks `check` at the time that `due` names, and does what it says.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

from .connection import Connection

PING_TIMEOUT = 20.0
"""Seconds without a sign of life after a ping, by default."""

STEPS = 10
"""An idle connection is found out within one part in so many of its timeout. A check that comes later than that finds
no peer dead: what held it up may have held up the reading too."""


MAX_PINGS = 2
"""Pings of one keepalive that may wait for their pong at a time."""


class Verdict(enum.Enum):
    """What is to be done."""

    NOTHING = "nothing"
    PING = "ping"
    DEAD = "dead"
    IDLE = "idle"


NEVER = float("inf")


@dataclass(frozen=True)
class Timeouts:
    """When to do something about a silent peer, in seconds.

    Attributes:
        ping_interval: from one ping to the next, None for no pings.
        ping_timeout: without a sign of life, after a ping, after which the peer is dead; None for never.
        idle_timeout: without a data message in either direction after which the connection is idle; None for never.

    Raises:
        TypeError, ValueError: a value that is no positive number.
    """

    ping_interval: float | None = None
    ping_timeout: float | None = None
    idle_timeout: float | None = None

    def __post_init__(self) -> None:
        for name in ("ping_interval", "ping_timeout", "idle_timeout"):
            check_seconds(name, getattr(self, name), optional=True)


def check_seconds(name: str, value: object, *, optional: bool = False) -> None:
    """Raise TypeError or ValueError unless a value is a positive number, or None where that may be."""
    if value is None and optional:
        return
    if not isinstance(value, (int, float)):
        allowed = "a number of seconds or None" if optional else "a number of seconds"
        raise TypeError(f"{name} must be {allowed}, not {type(value).__name__}")
    if not value > 0:
        raise ValueError(f"{name} must be more than 0 seconds, not {value}")


class Keepalive:
    """Decides when to ping the peer of a connection, and when the connection is dead or idle.

    A ping is due at every interval. Any byte that arrives is a sign of life, because a pong may have to wait behind a
    large message, and some peers answer with an empty or a wrong Pong. Progress of our own output while more waits
    behind it is one too. After a sign of life nothing is concluded until the next ping. The deadline is extended while
    nothing is read, because the user takes no messages, and when a check comes late, because the program did something
    else.

    Args:
        connection: the one to watch.
        timeouts: see there.
        now: seconds, of the same clock as all that follow.

    Attributes:
        due: when to call `check` next, infinity for never.
    """

    def __init__(self, connection: Connection, timeouts: Timeouts, now: float) -> None:
        self._connection = connection
        self._interval = timeouts.ping_interval or NEVER
        self._timeout = timeouts.ping_timeout or NEVER
        self._idle = timeouts.idle_timeout or NEVER
        self._next_ping = now + self._interval
        self._pings: deque[bytes] = deque()  # payloads that may still be answered
        self._deadline = NEVER
        self._progress: object = None
        self._idle_at = now + self._idle
        self._messages = 0
        self.due = self._next_due(now)

    def check(self, now: float, progress: object, reading: bool) -> Verdict:
        """Judge the connection.

        Args:
            now: the time, at `due` or later.
            progress: what changes with every sign of life, and whenever reading is taken up again.
            reading: whether a sign of life would be noticed.
        """
        verdict = self._judge_idle(now) or self._judge_life(now, progress, reading) or self._judge_ping(now, progress)
        self.due = self._next_due(now)
        return verdict or Verdict.NOTHING

    def ping(self) -> bytes:
        """Return the ping to send after a verdict of PING.

        Two may wait for their pong at a time, for round trips longer than the interval; older ones are forgotten, so
        that a peer that never answers costs no memory.
        """
        if len(self._pings) == MAX_PINGS:
            self._connection.pings.pop(self._pings.popleft(), None)
        frame = self._connection.ping()
        self._pings.append(next(reversed(self._connection.pings)))
        return frame

    def _judge_idle(self, now: float) -> Verdict | None:
        counters = self._connection.counters
        messages = counters.messages_received + counters.messages_sent
        if messages != self._messages:
            self._messages = messages
            self._idle_at = now + self._idle
        return Verdict.IDLE if now >= self._idle_at else None

    def _judge_life(self, now: float, progress: object, reading: bool) -> Verdict | None:
        if now < self._deadline:
            return None
        if progress != self._progress:
            self._deadline = NEVER
        elif reading and now - self._deadline <= self._timeout / STEPS:
            return Verdict.DEAD
        else:
            self._deadline = now + self._timeout
        return None

    def _judge_ping(self, now: float, progress: object) -> Verdict | None:
        if now < self._next_ping:
            return None
        self._next_ping = now + self._interval
        if self._deadline < NEVER and progress == self._progress:
            return None  # silent since the last ping: the deadline decides
        self._progress = progress
        self._deadline = now + self._timeout
        return Verdict.PING

    def _next_due(self, now: float) -> float:
        return min(self._next_ping, self._deadline, self._idle_at, now + self._idle / STEPS)
