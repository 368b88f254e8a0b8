"""The chat example as its visitors use it: by this library, by another one, and by a browser."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from typing import Any
from urllib.request import urlopen

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from websockets.asyncio.client import connect as connect_websockets

from wslowlevel import (
    InvalidHandshake,
    Opcode,
    PerMessageDeflate,
    Socket,
    connect,
    get_messages_factory,
    send_message_factory,
)

from .servers import TIMEOUT, run
from .test_browser import browser
from .test_examples import Example, backend

__all__ = ["backend", "browser"]

NUMBERS = count(1)
SCRIPT = "<script>document.title = 'run'</script><img src=x onerror=alert(1)>"


class Chat(Example):
    """The running example, which names its page and not its endpoint.

    Attributes:
        room: where visitors meet; another one for each test.
    """

    room = "lobby"

    def __init__(self, backend: str) -> None:
        super().__init__("chat", backend)

    def wait_until_ready(self) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        ready = re.fullmatch(r"listening on http://127\.0\.0\.1:(\d+)\n", line)
        assert ready, line
        self.port = int(ready[1])

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@contextmanager
def chatting(backend: str) -> Iterator[Chat]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child inherits deafness to Ctrl-C
    try:
        example = Chat(backend)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        example.wait_until_ready()
        yield example
        example.end()
    finally:
        example.kill()


@pytest.fixture(scope="module", params=["python", "cython"])
def shared(request: pytest.FixtureRequest) -> Iterator[Chat]:
    with chatting(request.param) as example:
        yield example


@pytest.fixture
def chat(shared: Chat) -> Chat:
    shared.room = f"room-{next(NUMBERS)}"
    return shared


class Visitor:
    """A client of this library."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.say = send_message_factory(socket)
        self._messages = get_messages_factory(socket, auto_pong=True)()

    async def hear(self) -> Any:
        """What the server says next."""
        message = await self._messages.__anext__()
        assert message.opcode == Opcode.TEXT
        return json.loads(message.text)

    async def closed_with(self) -> tuple[int, str]:
        """(code, reason) of the Close frame, which must come next."""
        message = await self._messages.__anext__()
        assert message.opcode == Opcode.CLOSE
        assert self.socket.received is not None
        return self.socket.received


@asynccontextmanager
async def visitor(chat: Chat, name: str = "", room: str = "") -> AsyncIterator[Visitor]:
    """Come in, with a name or without one yet."""
    _, socket = await connect(chat.url(f"/room/{room or chat.room}"), extensions=[PerMessageDeflate()])
    assert len(socket.extensions) == 1
    try:
        visiting = Visitor(socket)
        if name:
            await visiting.say(name)
            assert name in (await visiting.hear())["here"]
        yield visiting
    finally:
        socket.close()
        await socket.wait_closed()


def talk(scenario: Coroutine[Any, Any, None]) -> None:
    run("asyncio", scenario)


def test_three_people_chat(chat: Chat) -> None:
    async def scenario() -> None:
        async with visitor(chat, "Ada") as ada, visitor(chat, "Grace") as grace:
            assert await ada.hear() == {"here": ["Ada", "Grace"]}
            async with connect_websockets(chat.url(f"/room/{chat.room}")) as edsger:
                await edsger.send("Edsger")
                everybody = {"here": ["Ada", "Edsger", "Grace"]}
                assert [await ada.hear(), await grace.hear(), json.loads(await edsger.recv())] == [everybody] * 3
                for say, name in ((ada.say, "Ada"), (grace.say, "Grace"), (edsger.send, "Edsger")):
                    text = f"Grüße von {name} 👩‍💻 " + "und noch etwas " * 20  # long enough to be compressed
                    await say(text)
                    heard = [await ada.hear(), await grace.hear(), json.loads(await edsger.recv())]
                    assert heard == [{"name": name, "text": text}] * 3
            assert [await ada.hear(), await grace.hear()] == [{"here": ["Ada", "Grace"]}] * 2

    talk(scenario())


def test_rooms_do_not_hear_each_other(chat: Chat) -> None:
    async def scenario() -> None:
        async with visitor(chat, "Ada", "one") as ada, visitor(chat, "Ada", "two") as other:
            await ada.say("one")
            assert await ada.hear() == {"name": "Ada", "text": "one"}
            await other.say("two")
            assert await other.hear() == {"name": "Ada", "text": "two"}

    talk(scenario())


@pytest.mark.parametrize(
    ("name", "message", "closing"),
    [
        ("", "", (1008, "a name has 1 to 24 printable characters")),
        ("", " Eve", (1008, "a name has 1 to 24 printable characters")),
        ("", "E\nve", (1008, "a name has 1 to 24 printable characters")),
        ("", "\u202eevE", (1008, "a name has 1 to 24 printable characters")),
        ("", "E" * 25, (1008, "a name has 1 to 24 printable characters")),
        ("", "Ada", (1008, "somebody here has that name")),
        ("", b"Eve", (1008, "text only")),
        ("Eve", b"binary", (1008, "text only")),
        ("Eve", " \n", (1008, "a text has 1 to 1000 characters")),
        ("Eve", "x" * 1001, (1008, "a text has 1 to 1000 characters")),
        ("Eve", "x" * 1_000_000, (1009, None)),
    ],
)
def test_what_may_not_be_said(chat: Chat, name: str, message: str | bytes, closing: tuple[int, str | None]) -> None:
    async def scenario() -> None:
        async with visitor(chat, "Ada") as ada:
            async with visitor(chat, name) as eve:
                await eve.say(message)
                code, reason = await eve.closed_with()
                assert (code, closing[1] and reason) == closing
            if name:
                assert await ada.hear() == {"here": ["Ada", "Eve"]}
                assert await ada.hear() == {"here": ["Ada"]}
            await ada.say("still here")
            assert await ada.hear() == {"name": "Ada", "text": "still here"}

    talk(scenario())


def test_the_longest_text_is_passed_on(chat: Chat) -> None:
    async def scenario() -> None:
        async with visitor(chat, "Ada") as ada:
            await ada.say("🌍" * 1000)
            assert await ada.hear() == {"name": "Ada", "text": "🌍" * 1000}

    talk(scenario())


def test_a_name_is_free_again_once_its_owner_has_gone(chat: Chat) -> None:
    async def scenario() -> None:
        async with visitor(chat, "Grace") as grace:
            for _ in range(2):
                async with visitor(chat, "Ada") as ada:
                    assert await grace.hear() == {"here": ["Ada", "Grace"]}
                    ada.socket.abort()  # without a Close frame
                    assert await grace.hear() == {"here": ["Grace"]}

    talk(scenario())


@pytest.mark.parametrize(
    ("target", "origin", "status"),
    [("/", None, 404), ("/room/", None, 404), ("/room/A b", None, 404), ("/room/lobby", "http://example.org", 403)],
)
def test_who_is_not_let_in(chat: Chat, target: str, origin: str | None, status: int) -> None:
    async def scenario() -> None:
        with pytest.raises(InvalidHandshake) as caught:
            await connect(chat.url(target.replace(" ", "%20")), origin=origin)
        assert caught.value.status == status

    talk(scenario())


def test_ctrl_c_says_goodbye(backend: str) -> None:
    async def scenario(chat: Chat) -> None:
        async with visitor(chat, "Ada") as ada:
            chat.interrupt()
            assert await ada.closed_with() == (1001, "")

    with chatting(backend) as chat:
        talk(scenario(chat))


def test_the_page_has_a_policy(chat: Chat) -> None:
    with urlopen(chat.page, timeout=TIMEOUT) as response:
        policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert f"connect-src ws://127.0.0.1:{chat.port};" in policy
    assert "unsafe" not in policy


# -- In a browser -----------------------------------------------------------------------------------------------------


def texts(browser: Chrome, selector: str) -> list[str]:
    script = "return Array.from(document.querySelectorAll(arguments[0]), (found) => found.textContent);"
    found: list[str] = browser.execute_script(script, selector)
    return found


def wait_for(browser: Chrome, selector: str, expected: list[str]) -> None:
    WebDriverWait(browser, TIMEOUT).until(
        lambda _: texts(browser, selector) == expected, f"{selector} is not {expected}"
    )


def join(browser: Chrome, chat: Chat, name: str, state: str = "online") -> str:
    """Open a window, go to the page and say a name; return the window's handle."""
    browser.switch_to.new_window("window")
    browser.get(f"{chat.page}#{chat.room}")
    browser.find_element(By.ID, "name").send_keys(name, Keys.ENTER)
    wait_for(browser, "#state", [state])
    return browser.current_window_handle


def say(browser: Chrome, text: str) -> None:
    browser.find_element(By.ID, "text").send_keys(text, Keys.ENTER)


def test_two_windows_chat_and_markup_stays_text(chat: Chat, browser: Chrome) -> None:
    home = browser.current_window_handle
    browser.get_log("browser")  # type: ignore[no-untyped-call]
    ada, grace = join(browser, chat, "Ada"), join(browser, chat, "<b>Grace</b>")
    try:
        say(browser, SCRIPT)
        for window in (ada, grace):
            browser.switch_to.window(window)
            wait_for(browser, "#log .text", [SCRIPT])
            wait_for(browser, "#log .who", ["<b>Grace</b>"])
            wait_for(browser, "#people bdi", ["<b>Grace</b>", "Ada"])
            assert texts(browser, "#log script, #log img, b") == []
            assert browser.title == f"# {chat.room}"
        browser.close()
        browser.switch_to.window(ada)
        wait_for(browser, "#people bdi", ["Ada"])
        wait_for(browser, "#log .note", ["\u2068<b>Grace</b>\u2069 came in", "\u2068<b>Grace</b>\u2069 left"])
        browser.execute_script("window.lost = socket; socket.close();")
        WebDriverWait(browser, TIMEOUT).until(lambda _: browser.execute_script("return socket !== lost;"))
        wait_for(browser, "#state", ["online"])
        say(browser, "alone")
        wait_for(browser, "#log .own .text", ["alone"])
        assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
        join(browser, chat, "Ada", "connecting…")
        wait_for(browser, "#problem", ["somebody here has that name"])
        browser.close()
    finally:
        for window in {ada, grace} & set(browser.window_handles):
            browser.switch_to.window(window)
            browser.close()
        browser.switch_to.window(home)
