"""Connect over TCP to the first address of a host that answers (RFC 8305).

`connect_tcp` resolves a host, orders the addresses so that the families alternate (§4), and starts one attempt after
the other. The next attempt starts when one fails, or after a delay (§5), while the earlier ones go on:

    address 1   |------------------------ ...      no answer
    address 2       |-----x                        refused: the next attempt starts at once
    address 3             |----------> connected   the others are cancelled, and their sockets closed

The event loops' own `create_connection` is not used for this because uvloop has no Happy Eyeballs.
"""

from __future__ import annotations

import asyncio
import os
import socket as sockets
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

HAPPY_EYEBALLS_DELAY = 0.25
"""Seconds until the next attempt starts while one is going on (RFC 8305 §5)."""

LocalAddress = tuple[str, int]

AddressInfo = tuple[int, int, int, str, Any]
"""(family, type, proto, canonical name, address), see `socket.getaddrinfo`."""

AttemptTask = asyncio.Task["sockets.socket | None"]

Attempt = Callable[[AddressInfo], Coroutine[Any, Any, "sockets.socket | None"]]
"""Connects to an address; None means that it cannot be reached."""


@dataclass(frozen=True)
class Dialing:
    """How to connect over TCP.

    Attributes:
        local_addr: (host, port) to connect from.
        delay: seconds until the next attempt starts while one is going on; None: only when one has failed.
        family, proto, flags: for `getaddrinfo`.
        interleave: how many addresses of the first family precede the first of another (RFC 8305 §4); 0 keeps the
            order of the resolver.
    """

    local_addr: LocalAddress | None = None
    delay: float | None = HAPPY_EYEBALLS_DELAY
    family: int = 0
    proto: int = 0
    flags: int = 0
    interleave: int = 1


async def connect_tcp(host: str, port: int, dialing: Dialing) -> sockets.socket:
    """Return a non-blocking socket that is connected to the first address of a host that answers.

    If this fails or is cancelled, no socket and no task is left behind.

    Raises:
        OSError: no attempt was successful. The text lists each address and its error; `errno` is set if it is the same
            for all of them.
    """
    addresses = interleaved(await _resolve(host, port, dialing), dialing.interleave)
    sources: Sequence[AddressInfo | None] = [None]
    if dialing.local_addr is not None:
        sources = await _resolve(*dialing.local_addr[:2], dialing)
    failures: list[tuple[AddressInfo, OSError]] = []

    async def attempt(info: AddressInfo) -> sockets.socket | None:
        try:
            return await _connect_from(sources, info)
        except OSError as error:
            failures.append((info, error))
            return None

    if len(addresses) == 1:
        sock = await attempt(addresses[0])
    else:
        sock = await race(attempt, addresses, dialing.delay)
    if sock is None:
        raise _all_failed(host, port, failures)
    return sock


def interleaved(addresses: Sequence[AddressInfo], first: int) -> list[AddressInfo]:
    """Order addresses so that the families alternate, the resolver's order otherwise kept (RFC 8305 §4)."""
    unique = list({(info[0], info[4]): info for info in addresses}.values())
    if first < 1:
        return unique
    families = {info[0]: deque[AddressInfo]() for info in unique}
    for info in unique:
        families[info[0]].append(info)
    queues = list(families.values())
    ordered = [queues[0].popleft() for _ in range(min(first - 1, len(queues[0])))]
    while any(queues):
        ordered += [queue.popleft() for queue in queues if queue]
    return ordered


# -- The race ---------------------------------------------------------------------------------------------------------


async def race(attempt: Attempt, addresses: Sequence[AddressInfo], delay: float | None) -> sockets.socket | None:
    """Return the first socket of an attempt, None if every attempt returned None."""
    running: set[AttemptTask] = set()
    try:
        sock = await _first(attempt, deque(addresses), delay, running)
    except BaseException:
        await _cancel(running)
        raise
    try:
        await _cancel(running)
    except BaseException:
        if sock is not None:
            sock.close()
        raise
    return sock


async def _first(
    attempt: Attempt, waiting: deque[AddressInfo], delay: float | None, running: set[AttemptTask]
) -> sockets.socket | None:
    """Start attempts until one returns a socket; those that have not ended by then are left in `running`."""
    while waiting or running:
        if waiting:
            running.add(asyncio.create_task(attempt(waiting.popleft())))
        done, _ = await asyncio.wait(running, timeout=delay if waiting else None, return_when=asyncio.FIRST_COMPLETED)
        failed = {task for task in done if task.result() is None}
        running -= failed
        for task in done - failed:
            running.discard(task)
            return task.result()
    return None


async def _cancel(tasks: set[AttemptTask]) -> None:
    """Cancel attempts and wait for their end; the socket of one that was successful all the same is closed."""
    for task in tasks:
        task.add_done_callback(_close_result)
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _close_result(task: AttemptTask) -> None:
    if not task.cancelled() and task.exception() is None and (sock := task.result()) is not None:
        sock.close()


# -- One attempt ------------------------------------------------------------------------------------------------------


async def _resolve(host: str, port: int, dialing: Dialing) -> list[AddressInfo]:
    literal = _literal(host, port, dialing)
    if literal is not None:
        return [literal]
    infos = await asyncio.get_running_loop().getaddrinfo(
        host, port, family=dialing.family, type=sockets.SOCK_STREAM, proto=dialing.proto, flags=dialing.flags
    )
    if not infos:
        raise OSError(f"cannot look up {host}: the resolver returned no address")
    return list(infos)


def _literal(host: str, port: int, dialing: Dialing) -> AddressInfo | None:
    """Return the address that a host is, None if it is a name: `getaddrinfo` would take a thread for nothing."""
    for family, address in ((sockets.AF_INET, (host, port)), (sockets.AF_INET6, (host, port, 0, 0))):
        if dialing.family in (0, family) and not dialing.flags:
            try:
                sockets.inet_pton(family, host)
            except (OSError, ValueError, TypeError):
                continue
            return family, sockets.SOCK_STREAM, dialing.proto or sockets.IPPROTO_TCP, "", address
    return None


async def _connect_from(sources: Sequence[AddressInfo | None], info: AddressInfo) -> sockets.socket:
    """Connect to one address, from one of the local ones of its family if there are any to choose from."""
    matching = [source for source in sources if source is None or source[0] == info[0]]
    if not matching:
        raise OSError(f"local_addr has no address of the family {sockets.AddressFamily(info[0]).name}")
    family, kind, proto, _, address = info
    sock = sockets.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        # asyncio and uvloop set it for connections that they make, so that small frames leave at once
        sock.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        _bind(sock, matching)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(sock: sockets.socket, sources: Sequence[AddressInfo | None]) -> None:
    failure: OSError | None = None
    for source in sources:
        if source is None:
            return
        try:
            sock.bind(source[4])
        except OSError as error:
            failure = _BindError(
                error.errno, f"cannot bind to local_addr {_shown_address(*source[4][:2])}: {error.strerror}"
            )
        else:
            return
    assert failure is not None
    raise failure


class _BindError(OSError):
    """A local address that cannot be used; its text is this module's own."""


# -- Errors -----------------------------------------------------------------------------------------------------------


def _all_failed(host: str, port: int, failures: Sequence[tuple[AddressInfo, OSError]]) -> OSError:
    """Return one error for all attempts; an ExceptionGroup, as asyncio has it, takes CPython 3.11."""
    reasons = [f"{_shown_address(*info[4][:2])}: {_reason(error)}" for info, error in failures]
    target = f"{_shown_address(host, port)}: "
    text = "; ".join(reasons)
    text = f"cannot connect to {text if text.startswith(target) else target + text}"
    numbers = {error.errno for _, error in failures}
    number = numbers.pop() if len(numbers) == 1 else None
    return OSError(text) if number is None else OSError(number, text)


def _reason(error: OSError) -> str:
    """Return the system's own words: the texts of the event loops repeat the address."""
    if error.errno is None or isinstance(error, _BindError):
        return str(error.strerror or error)
    return os.strerror(error.errno)


def _shown_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
