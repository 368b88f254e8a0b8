"""Runs the test suites of other libraries with ours in place and without: what passes without must pass with it.

python -m tests.suites            all of them
python -m tests.suites wsproto    some

Their source archives come from the package index, and an environment of their own is made, both in build/suites. Exit
code 0: nothing is lost but what is named below.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent.parent
PLACE = ROOT / "build" / "suites"
PYTHON = PLACE / "env" / "bin" / "python"
TOOLS = ("pytest", "pytest-asyncio", "pytest-mock", "pytest-trio", "pytest-xdist")


@dataclass(frozen=True)
class Suite:
    """The tests of a release.

    Attributes:
        release: name==version.
        dropin: what is installed for the second run; of uvicorn, nothing: its tests get our protocol class.
        arguments: of pytest.
        needs: what else its tests import.
        environment: variables for both runs, such as those that leave its compiled parts out: with them there is
            nothing to be replaced.
        lost: tests that pass with its own classes only, and why.
    """

    release: str
    dropin: str
    arguments: tuple[str, ...] = ("tests",)
    needs: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    lost: tuple[tuple[str, str], ...] = ()


NO_ASYNCIO = ("-p", "no:asyncio")
"""The plugin that other suites need."""


def files(path: str, *names: str) -> tuple[str, ...]:
    return tuple(path.format(name) for name in names)


SUITES = {
    "wsproto": Suite("wsproto==1.3.2", "wsproto", ("tests", *NO_ASYNCIO)),
    "hypercorn": Suite("hypercorn==0.18.0", "wsproto", needs=("hypercorn[trio,uvloop]", "httpx")),
    "trio-websocket": Suite("trio-websocket==0.12.2", "wsproto", ("tests", *NO_ASYNCIO, "-o", "trio_mode=true")),
    "simple-websocket": Suite("simple-websocket==1.1.0", "wsproto", ("tests", *NO_ASYNCIO)),
    "httpx-ws": Suite("httpx-ws==0.9.0", "wsproto", needs=("starlette", "uvicorn")),
    "websocket-client": Suite("websocket-client==1.9.2", "websocket-client", ("websocket/tests", *NO_ASYNCIO)),
    "ws4py": Suite("ws4py==0.6.0", "ws4py", ("test", "--ignore=test/test_cherrypy.py", *NO_ASYNCIO)),
    "lomond": Suite(
        "lomond==0.3.4",
        "lomond",
        # The archive lacks the servers that those two need.
        ("tests", "--ignore=tests/test_live.py", "--ignore=tests/test_proxy.py", *NO_ASYNCIO),
        ("freezegun", "tornado"),
    ),
    "eventlet": Suite("eventlet==0.41.3", "eventlet", (*files("tests/websocket{}_test.py", "", "_new"), *NO_ASYNCIO)),
    "tornado": Suite(
        "tornado==6.6.1",
        "tornado",
        ("tornado/test/websocket_test.py", *NO_ASYNCIO),
        environment=(("TORNADO_EXTENSION", "0"),),
    ),
    "aiohttp": Suite(
        "aiohttp==3.14.5",
        "aiohttp",
        (
            *files("tests/test_client_ws{}.py", "", "_functional"),
            *files("tests/test_web_websocket{}.py", "", "_functional"),
            *files("tests/test_websocket_{}.py", "data_queue", "handshake", "parser", "writer"),
            *NO_ASYNCIO,
        ),
        ("blockbuster", "coverage", "isal", "pytest-codspeed", "pytest-timeout", "trustme", "zlib-ng"),
        (("AIOHTTP_NO_EXTENSIONS", "1"),),
    ),
    "autobahn": Suite(
        "autobahn==26.10.2",
        "autobahn",
        (
            "src/autobahn/websocket/test",
            *files("src/autobahn/twisted/test/test_tx_{}.py", "protocol", "websocket_agent"),
            *("-o", "pythonpath=src"),
            *NO_ASYNCIO,
        ),
        ("autobahn[twisted]",),
        (("AUTOBAHN_USE_NVX", "0"), ("USE_TWISTED", "1")),
    ),
    "uvicorn": Suite(
        "uvicorn==0.54.0",
        "",
        ("tests/protocols/test_websocket.py", *NO_ASYNCIO),
        ("uvicorn[standard]", "httpx2", "a2wsgi", "wsproto", "zttp", "trustme", "cryptography"),
        lost=(
            ("test_duplicate_handshake", "the peer is told by a Close frame: 1011, not a connection that just ends"),
            ("test_asgi_return_value", "likewise, 1000"),
            ("test_close_transport_on_asgi_return", "likewise, 1000"),
            ("test_server_keepalive_ping_pong", "asks whether the protocol is one of its own classes"),
            ("test_server_keepalive_disabled", "asks whether the protocol is one of its own classes"),
            (
                "test_close_resumes_reads_paused_on_an_unconsumed_message",
                "expects that reading pauses at one message; here it does at 64 KiB of them",
            ),
        ),
    ),
}
OURS = "wslowlevel.uvicorn:WebSocketProtocol"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"{', '.join(SUITES)}; default: all of them")
    chosen = parser.parse_args(arguments).suites or list(SUITES)
    prepare([SUITES[name] for name in chosen])
    lost = {name: lost_tests(name, SUITES[name]) for name in chosen}
    return int(any(lost.values()))


def prepare(suites: Sequence[Suite]) -> None:
    """An environment with every library and what its tests need, and the sources beside it."""
    if not PYTHON.exists():
        venv.create(PLACE / "env", with_pip=True, symlinks=True)
    install = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    needs = [need for suite in suites for need in (suite.release, *suite.needs)]
    subprocess.run([*install, "h11", *TOOLS, *needs], check=True)
    (PLACE / "pytest.ini").write_text("[pytest]\n")  # for those without one, which would find ours further up
    for suite in suites:
        if not source_of(suite).exists():
            fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
            subprocess.run([*fetch, "-d", str(PLACE), suite.release], check=True)
            (archive,) = PLACE.glob(f"{stem(suite)}.tar.gz")
            with tarfile.open(archive) as source:
                source.extractall(PLACE, filter="data")


def stem(suite: Suite) -> str:
    name, _, version = suite.release.partition("==")
    return f"{name.replace('-', '_')}-{version}"


def source_of(suite: Suite) -> Path:
    return PLACE / stem(suite)


def lost_tests(name: str, suite: Suite) -> list[str]:
    """Run a suite without ours and with it, and say what came of it."""
    without, with_it = passed(suite, ours=False), passed(suite, ours=True)
    if name == "uvicorn":  # whose first run tests three classes, and the second one
        ended = {each: outcome for each, outcome in with_it.items() if not outcome}
    else:
        ended = {each: False for each, outcome in without.items() if outcome and not with_it.get(each)}
    named = [each for each in ended if any(test in each for test, _ in suite.lost)]
    unexpected = sorted(ended.keys() - set(named))
    print(f"{suite.release:<26} {sum(without.values()):>5} passed without, {sum(with_it.values()):>5} with it", end="")
    print(f", {len(named)} named" if named else "", flush=True)
    for test in unexpected:
        print(f"  lost: {test}")
    if not any(with_it.values()):
        print("  nothing passed")
        return ["nothing passed"]
    return unexpected


def passed(suite: Suite, *, ours: bool) -> dict[str, bool]:
    """Of each test, whether it passed; skipped ones are left out."""
    report = PLACE / f"{stem(suite)}.xml"
    report.unlink(missing_ok=True)
    plugins = PLACE / "plugins"
    plugins.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).with_name("in_place.py"), plugins)
    environment = {**os.environ, **dict(suite.environment), "PYTHONPATH": os.pathsep.join([str(plugins), str(ROOT)])}
    if ours:
        environment |= {"SUITE_DROPIN": suite.dropin} if suite.dropin else {"SUITE_PROTOCOL": OURS}
    command = [str(PYTHON), "-m", "pytest", "-q", "-p", "in_place", "-p", "no:cacheprovider", "-o", "addopts="]
    subprocess.run(
        [*command, f"--junitxml={report}", *suite.arguments],
        cwd=source_of(suite),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if not report.exists():
        return {}
    cases = ElementTree.parse(report).getroot().iter("testcase")
    return {
        f"{case.get('classname')}.{case.get('name')}": case.find("failure") is None and case.find("error") is None
        for case in cases
        if case.find("skipped") is None
    }


if __name__ == "__main__":
    sys.exit(main())
