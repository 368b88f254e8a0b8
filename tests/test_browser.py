"""The page of `python -m wslowlevel echo` in a real browser: what people do with it, and what they see then."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from .servers import TIMEOUT
from .test_command_line import EchoCommand, echo_command

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)

ROWS = """
return Array.from(document.querySelectorAll("#rows tr"), (row) => ({
    direction: row.className,
    opcode: row.querySelector(".opcode").textContent,
    bits: Array.from(row.querySelectorAll(".bits .set"), (bit) => bit.textContent),
    header: row.querySelector(".header").textContent.trim(),
    length: Number(row.querySelector(".length").textContent.replaceAll(",", "")),
    preview: row.querySelector(".preview").textContent,
    trip: row.querySelector(".trip").textContent,
}));
"""

FIELDS = ("direction", "opcode", "bits", "length", "preview")
BINARY_HELLO = "48 65 6c 6c 6f"


def program(*names: str) -> str:
    found = next((path for name in names if (path := shutil.which(name))), None)
    assert found, f"{names[0]} is needed to test the page: apt-get install chromium chromium-driver"
    return found


class Page(NamedTuple):
    """The page in a browser, and the command that serves it."""

    browser: Chrome
    command: EchoCommand

    def click(self, name: str) -> None:
        self.browser.find_element(By.ID, name).click()

    def type(self, name: str, text: str) -> None:
        field = self.browser.find_element(By.ID, name)
        field.clear()
        field.send_keys(text)

    def text(self, name: str) -> str:
        return self.browser.find_element(By.ID, name).text

    def rows(self) -> list[dict[str, Any]]:
        """What the table shows, oldest first."""
        rows: list[dict[str, Any]] = self.browser.execute_script(ROWS)
        return rows[::-1]

    def wait(self, name: str, pattern: str) -> None:
        """Wait until an element's text is this."""
        WebDriverWait(self.browser, TIMEOUT).until(
            lambda _: re.fullmatch(pattern, self.text(name)), f"#{name} is not {pattern!r}"
        )

    def wait_for_echoes(self, number: int) -> list[dict[str, Any]]:
        """Wait until so many frames show a round trip; return all rows."""

        def complete(_: Chrome) -> list[dict[str, Any]] | None:
            rows = self.rows()
            return rows if sum(bool(row["trip"]) for row in rows) >= number else None

        rows = WebDriverWait(self.browser, TIMEOUT).until(complete, f"no {number} round trips")
        assert rows is not None
        return rows

    def console(self) -> list[dict[str, Any]]:
        """What the browser has logged since this was asked last."""
        log: list[dict[str, Any]] = self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        return log


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = program("chromium", "chromium-browser", "google-chrome")
    profile: Path = tmp_path_factory.mktemp("profile")
    for argument in (*ARGUMENTS, "--window-size=1280,900", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options, ChromeService(program("chromedriver")))
    yield chrome
    chrome.quit()


@pytest.fixture
def page(browser: Chrome) -> Iterator[Page]:
    with echo_command() as command:
        opened = Page(browser, command)
        opened.console()  # drop what the page before this one left there
        browser.get(command.url("http"))
        opened.wait("state", "open")
        yield opened
        assert opened.console() == []


def shown(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row[field] for field in FIELDS) for row in rows]


def echoed(opcode: str, length: int, preview: str) -> list[tuple[Any, ...]]:
    """The two rows of a message that came in one frame."""
    return [("in", opcode, ["FIN", "MASK"], length, preview), ("out", opcode, ["FIN"], length, preview)]


def test_a_message_comes_back(page: Page) -> None:
    page.type("text", "Grüße")
    page.click("send")
    received, sent = rows = page.wait_for_echoes(1)
    assert shown(rows) == echoed("text 0x1", 7, "Grüße")
    assert re.fullmatch("81 87( [0-9a-f]{2}){4}", received["header"])
    assert sent["header"] == "81 07"
    assert received["trip"] == ""
    assert re.fullmatch(r"\d+\.\d\d ms", sent["trip"])
    page.wait("median", re.escape(sent["trip"]))
    assert (page.text("frames"), page.text("received"), page.text("sent")) == ("2", "7 B", "7 B")


def test_it_says_what_serves_it(page: Page) -> None:
    assert page.text("backend") == page.command.backend
    assert page.text("kernel") == page.command.kernel


def test_the_keyboard_is_enough(page: Page) -> None:
    assert page.browser.switch_to.active_element.get_attribute("id") == "text"
    page.browser.switch_to.active_element.send_keys(Keys.END, "!", Keys.ENTER)
    assert shown(page.wait_for_echoes(1)) == echoed("text 0x1", 6, "Hello!")
    page.browser.switch_to.active_element.send_keys(Keys.TAB, Keys.ARROW_RIGHT, Keys.ENTER)
    assert shown(page.wait_for_echoes(2))[2:] == echoed("binary 0x2", 6, f"{BINARY_HELLO} 21")


def test_binary_and_64_kib(page: Page) -> None:
    page.browser.find_element(By.CSS_SELECTOR, "label:has(#as-binary)").click()
    page.click("send")
    assert shown(page.wait_for_echoes(1)) == echoed("binary 0x2", 5, BINARY_HELLO)
    page.click("clear")
    Select(page.browser.find_element(By.ID, "size")).select_by_visible_text("64 KiB")
    page.click("send")
    # A browser may fragment a message of this length; the echo is one frame.
    *received, sent = page.wait_for_echoes(1)
    assert [row["direction"] for row in received] == ["in"] * len(received)
    assert [row["opcode"] for row in received] == ["binary 0x2"] + ["continuation 0x0"] * (len(received) - 1)
    assert ["FIN" in row["bits"] for row in received] == [False] * (len(received) - 1) + [True]
    assert sum(row["length"] for row in received) == 65536
    assert shown([sent])[0][:4] == ("out", "binary 0x2", ["FIN"], 65536)
    assert sent["header"] == "82 7f 00 00 00 00 00 01 00 00"
    assert sent["preview"].startswith(BINARY_HELLO)


@pytest.mark.parametrize("text", ["<img src=x onerror=alert(1)>", "\u202egnp.exe", "'\"&amp;</script>"])
def test_a_payload_is_only_text(page: Page, text: str) -> None:
    page.type("text", text)
    page.click("send")
    assert shown(page.wait_for_echoes(1)) == echoed("text 0x1", len(text.encode()), text)


def test_many_messages_do_not_fill_the_page(page: Page) -> None:
    page.type("repeat", "600")
    page.click("send")
    page.wait("frames", "1,200")
    page.wait_for_echoes(250)
    assert len(page.rows()) == 500
    assert page.text("received") == "3,000 B"


def test_a_ping_is_answered_by_the_browser(page: Page) -> None:
    page.click("ping")
    rows = page.wait_for_echoes(1)
    assert shown(rows) == [
        ("out", "ping 0x9", ["FIN"], 10, "wslowlevel"),
        ("in", "pong 0xA", ["FIN", "MASK"], 10, "wslowlevel"),
    ]


def test_closing_and_connecting_again(page: Page) -> None:
    page.type("code", "4001")
    page.type("reason", "enough")
    page.click("close")
    page.wait("state", "closed, 4001 enough")
    page.wait("frames", "2")
    assert shown(page.rows()) == [
        ("in", "close 0x8", ["FIN", "MASK"], 8, "4001 enough"),
        ("out", "close 0x8", ["FIN"], 8, "4001 enough"),
    ]
    assert not page.browser.find_element(By.ID, "send").is_enabled()
    page.click("reconnect")
    page.wait("state", "open")
    page.click("send")
    assert shown(page.wait_for_echoes(1))[2:] == echoed("text 0x1", 5, "Hello")


def test_a_close_code_that_browsers_refuse(page: Page) -> None:
    page.type("code", "1002")
    page.click("close")
    page.wait("problem", ".*1002.*")
    assert page.text("state") == "open"


def test_the_end_of_the_server_is_seen(page: Page) -> None:
    page.click("send")
    page.wait_for_echoes(1)
    assert page.command.stop(signal.SIGINT) == (0, "", "")
    page.wait("state", "closed, 1001")
    page.wait("frames", "3")
    assert shown(page.rows())[2:] == [("out", "close 0x8", ["FIN"], 2, "1001")]


@pytest.mark.parametrize("width", [390, 820, 1280])
def test_it_fits_the_window(page: Page, width: int) -> None:
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        page.click("send")
        page.wait_for_echoes(1)
        scrolled, visible = page.browser.execute_script(
            "const {scrollWidth, clientWidth} = document.documentElement; return [scrollWidth, clientWidth];"
        )
        assert scrolled == visible <= width
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
